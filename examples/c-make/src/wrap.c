#include <ctype.h>

#include "wrap.h"

size_t wrap(FILE *in, FILE *out, size_t width)
{
	char word[4096];
	size_t column = 0, lines = 0, length = 0;
	int c;

	do {
		c = getc(in);
		if (c != EOF && !isspace(c) && length < sizeof word) {
			word[length++] = (char)c;
			continue;
		}
		if (length > 0) {
			if (column > 0 && column + 1 + length > width) {
				putc('\n', out);
				lines++;
				column = 0;
			}
			if (column > 0) {
				putc(' ', out);
				column++;
			}
			fwrite(word, 1, length, out);
			column += length;
			length = 0;
		}
		if (c != EOF && !isspace(c))
			ungetc(c, in);
	} while (c != EOF);
	if (column > 0) {
		putc('\n', out);
		lines++;
	}
	return lines;
}
