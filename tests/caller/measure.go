package main

import (
	"bufio"
	"fmt"
	"io"
	"sync"
	"time"
)

func init() {
	verbs["up"], verbs["down"], verbs["connects"], verbs["requests"] = up, down, connects, requests
}

// up ADDRESS SIZE: seconds until the server has all.
func up(args []string) error {
	n := number(args[1])
	c, err := open(args[0], fmt.Sprint("sink ", n))
	if err != nil {
		return err
	}
	defer c.Close()
	began := time.Now()
	if err := send(c, n); err != nil {
		return err
	}
	c.CloseWrite()
	err = verdict(c)
	say("%f", time.Since(began).Seconds())
	return err
}

// down ADDRESS SIZE: seconds until all is here.
func down(args []string) error {
	n := number(args[1])
	c, err := open(args[0], fmt.Sprint("source ", n))
	if err != nil {
		return err
	}
	defer c.Close()
	began := time.Now()
	buf := make([]byte, 256<<10)
	for at := 0; at < n; {
		m, err := c.Read(buf)
		if at += m; err != nil && at < n {
			return err
		}
	}
	say("%f", time.Since(began).Seconds())
	return nil
}

// connects ADDRESS COUNT: connections with a request each, by eight at a time.
func connects(args []string) error {
	n := number(args[1])
	began := time.Now()
	var group sync.WaitGroup
	failed := make(chan error, 8)
	for range 8 {
		group.Go(func() {
			for range n / 8 {
				c, err := open(args[0], "lines\nx")
				if err == nil {
					_, err = bufio.NewReader(c).ReadString('\n')
				}
				if err != nil {
					failed <- err
					return
				}
				c.Close()
			}
		})
	}
	group.Wait()
	say("%f", time.Since(began).Seconds())
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// requests ADDRESS COUNT: one after the other by one connection.
func requests(args []string) error {
	c, err := open(args[0], "lines")
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	began := time.Now()
	for range number(args[1]) {
		if _, err := io.WriteString(c, "x\n"); err != nil {
			return err
		}
		if _, err := r.ReadString('\n'); err != nil {
			return err
		}
	}
	say("%f", time.Since(began).Seconds())
	return nil
}
