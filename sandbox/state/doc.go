// Package state is where sbx keeps things on disk, and the only writer there:
//
//	$XDG_STATE_HOME/sbx/            0700
//	  trees/NAME-HASH/              one per source tree; HASH is of its real path
//	    tree                        the real path, quoted
//	    layers/LAYER/
//	      layer                     the id map that the layer was made with
//	      lock                      flock(2) while a run starts or ends (Lock)
//	      live                      flock(2), shared, while runs have the layer
//	      upper/ work/              the overlay of the tree
//	      with/ git/ cow/           those of other directories, KEY/{upper,work};
//	                                with/KEY/source is the path, quoted
//	      journal                   what the host had (Journal)
//	      pull                      flock(2) of what brings files out
//	      caches/                   that of the caches in $HOME
//	      home/                     $HOME inside
//	      seeds                     what sbx has put there (Seeds)
//	  runs/RUN/{socket,run}         of a run that lives (package share)
//	  runs/RUN.json                 what is left of a run
//	  trash/                        renamed away, being deleted
//
// What is in upper, in home and in the like was written by builds and is
// hostile: this package never follows a symlink there. The directories above
// them are never inside a sandbox.
//
// A lock says that no sbx has the layer; it does not say that no mount has it,
// because after kill -9 of sbx the kernel takes a moment to end the sandbox.
// So the lock's content stays where a run was killed, and the next one asks the
// kernel before it touches anything (package plan, ProbeUpper).
package state
