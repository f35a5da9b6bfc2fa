;; M-x compile builds in the sandbox. Copy this to .dir-locals.el at the root of a project.
((nil . ((compile-command . "sbx -- make"))))
