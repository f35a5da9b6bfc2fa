package host

// Explain gives hints for a sandbox that could not be made.
func Explain(err error) []string { return nil }
