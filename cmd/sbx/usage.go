package main

import "fmt"

// printHelp prints the usage.
func printHelp(verb string) error { fmt.Print(usage); return nil }

const usage = "usage\n"
