package main

import (
	"context"
	"io"
	"testing"
)

func TestStudentsStopsWhereItIsInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	o := studentsOptions{global: global{library: findLibrary(t)}, names: []string{"cnn"}, size: []int{3, 32, 32}, classes: 10, runs: 1 << 30}
	if err := runStudents(ctx, o, io.Discard, io.Discard); exitCode(err) != exitInterrupted {
		t.Errorf("error %v, exit status %d", err, exitCode(err))
	}
}
