package vfs

// NamedTemp is OS as on a file system that refuses O_TMPFILE.
var NamedTemp FS = osFS{named: true}
