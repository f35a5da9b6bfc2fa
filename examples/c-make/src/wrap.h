#include <stddef.h>
#include <stdio.h>

/* wrap copies in to out and breaks lines at spaces before they get longer than
 * width. It returns the number of lines written. */
size_t wrap(FILE *in, FILE *out, size_t width);
