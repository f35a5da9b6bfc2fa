package main

import (
	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
)

// why is `sbx why`.
func why(c *cli.Context, o *sandbox.Options) error { return nil }
