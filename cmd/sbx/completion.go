package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/policy"
)

//go:embed completion/sbx.bash completion/sbx.zsh completion/sbx.fish
var completions embed.FS

// completion is `sbx completion SHELL`. With "layers", which the scripts call, it
// lists the layers of the source tree.
func completion(c *cli.Context, o *sandbox.Options) error {
	shellName := c.Args().First()
	if shellName == "layers" {
		names, err := layers(*o)
		for _, name := range names {
			fmt.Println(name)
		}
		return err
	}
	text, err := completions.ReadFile("completion/sbx." + shellName)
	switch {
	case shellName == "":
		return usagef("sbx completion bash", "cannot print the completion: no shell is given: bash, zsh or fish")
	case err != nil:
		return usagef("sbx completion bash", "cannot print the completion for %q: the shells are bash, zsh and fish", shellName)
	case c.Args().Len() > 1:
		return usagef("sbx completion "+shellName, "cannot print the completion for %q: one shell at a time", c.Args().Get(1))
	}
	_, err = os.Stdout.Write(text)
	return err
}

// layers are the names of the layers that the source tree has.
func layers(o sandbox.Options) ([]string, error) {
	s, err := sandbox.Open(o)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Dir(s.Layer.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && policy.CheckLayer(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, err
}
