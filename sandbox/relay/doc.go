// Package relay carries what a sandbox sends to the network, and what comes back. Whom it
// may send to, and by which name, is decided in package network.
//
// # How a connection is made
//
// The sandbox's network namespace has an interface, of which sbx has the other end, a
// file of IP packets (wire.go). There is no TCP in sbx: the sandbox's own kernel is made
// to end each connection, at a socket that listens in the sandbox's network and is held by
// sbx. For that the packets of a connection get other addresses and go back to where they
// came from.
//
//	program        sandbox's kernel        sbx                       the world
//	connect(R) ──► SYN  A:p -> R:q  ─────► held (tcp.go)
//	                                       Reach(R), connect ──────► R:q
//	               SYN  X:y -> L:1  ◄───── so it exists: offered
//	               SYN-ACK L:1 -> X:y ───► as R:q -> A:p
//	 ◄── returns   …
//	                                       accept at L:1, join (pump.go)
//	 write ──────► A:p -> R:q ───────────► as X:y -> L:1 ┐
//	               the listening socket's connection ◄───┘
//	                                       splice ─────────────────► R:q
//
// A is the sandbox's address, L the one of the listening socket, and X:y one that is made
// up for each connection and cannot be guessed. As the program hears nothing before the
// connection exists, it learns exactly what came of it: a reset where R refuses, the errno
// of a router that has no way, no answer where there was none, and "prohibited" where the
// policy says no.
//
// # What a build cannot do
//
//   - Make the listening socket a way out: of what connects to it, only those stay that
//     have an X:y which was offered, and then as the connection that it was offered for.
//   - Be taken for another connection: packets are believed to be of the sandbox only with
//     its address, and those of the listening socket only from there and to an X:y that has
//     been made up.
//   - Send what is one thing to sbx and another to a kernel: options of IP, extension
//     headers and fragments are dropped (packet.go).
//   - Take a port of the host's from somebody, where all are published that it listens at
//     (auto.go): not one at whose number something listens, at whatever address, nor more
//     than some. One that is free it has before whoever comes later.
//   - Use up sbx: connections, those being made, datagram sockets, name look-ups, pipes,
//     held bytes and the record are bounded, each where it stands. The oldest connection
//     that is being made gives way to a new one.
//
// # The loop
//
// All of it runs in one goroutine (loop.go) that waits for all descriptors by epoll(7). A
// packet that sbx writes mostly makes a socket of sbx's own readable, which is then served
// by the same thread. System calls that cannot wait are made without Go's scheduler
// (package nonblock). What can take long, asking name servers and making sockets in the
// sandbox's network, is done by other goroutines that post their results.
//
// # Decisions
//
// Chosen against a TCP of our own, as gVisor's: it takes four times the memory, a tenth
// more of the binary's start, and is slower; against splitting the loop over threads,
// which gains in bulk and loses in latency. An answer is waited for awake, but not beside
// other programs that compute (wait.go): the scheduler would then have the thread wait for
// its turn when it comes. Bytes go by splice(2) when reads are full, by
// a buffer that all connections share otherwise: an idle connection holds neither.
//
// A server inside is reached by connecting to it from within: sockets of the sandbox's
// network, made by a short-lived process, some at a time (publish.go). Packets from
// outside would not get to one that listens at localhost alone.
package relay
