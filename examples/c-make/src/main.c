#include <stdlib.h>

#include "wrap.h"

int main(int argc, char **argv)
{
	size_t width = argc > 1 ? strtoul(argv[1], NULL, 10) : 72;

	wrap(stdin, stdout, width);
	return ferror(stdin) || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
