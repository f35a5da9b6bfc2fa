// Command notify prints what fsnotify tells of the directories that are its arguments.
package main

import (
	"fmt"
	"os"

	"github.com/fsnotify/fsnotify"
)

func main() {
	w, err := fsnotify.NewWatcher()
	for _, dir := range os.Args[1:] {
		if err == nil {
			err = w.Add(dir)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		select {
		case e := <-w.Events:
			fmt.Println(e.Op, e.Name)
		case err := <-w.Errors:
			fmt.Println("error:", err)
		}
	}
}
