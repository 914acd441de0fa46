// Package disktest lets tests run out of disk.
package disktest

import (
	"os/signal"
	"syscall"
	"testing"
)

// Limit makes the system refuse to write past a number of bytes of any file until the test ends, as a full disk does. It holds for
// the whole process: such a test must not be parallel, and the limit be above the log that testing keeps of it, some kilobytes.
func Limit(t testing.TB, bytes uint64) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old) })
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
}
