package main

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
)

// why is `sbx why PATH|NAME`.
func why(c *cli.Context, o *sandbox.Options) error {
	switch c.Args().Len() {
	case 0:
		return usagef("sbx why PATH", "cannot explain anything: no path or name is given")
	case 1:
	default:
		return usagef("sbx why "+shell(c.Args().Slice()[:1]), "cannot explain %q: why takes one path or name, and that after its flags", c.Args().Get(1))
	}
	answers, err := sandbox.Why(*o, c.Args().First())
	if err != nil {
		return err
	}
	return writeAnswers(os.Stdout, answers)
}

// writeAnswers prints each answer in a line, and below it the command line that
// would change it. The words are the host's and the build's: none may drive the
// terminal.
func writeAnswers(w io.Writer, answers []sandbox.Answer) error {
	for _, a := range answers {
		text := printable(a.Subject+": "+a.Text) + "\n"
		if a.Flags != nil {
			text += printable("to "+a.Purpose+": sbx "+shell(a.Flags)+" -- COMMAND") + "\n"
		}
		if _, err := io.WriteString(w, text); err != nil {
			return fmt.Errorf("cannot print the answer: %w", err)
		}
	}
	return nil
}
