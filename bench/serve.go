package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"distill/runtime"
)

// server is our side of the comparison: a process that holds one network, or one epoch. It answers each line with one line,
// "ok" and a result or "error" and the reason:
//
//	load NETWORK BATCH SEED THREADS FOLDER LAYOUT   makes the network ready; the layout is the peer's affair
//	first FILE                                      runs once and writes what both sides must agree on
//	step N                                          runs once untimed, then N times: milliseconds of each
//	memory                                          the process's largest resident set so far, in bytes
//
//	open IMAGES THREADS FOLDER WAY   readies an epoch of so many images, in the peer a layout for the way, and takes its first step
//	train SETTLE N                   takes some steps untimed, then N: milliseconds of these, and of the wait among them
//
// pytorch.py answers the same ones, and two more of its own.
type server struct {
	workload workload
	loop     *loop
}

// serve answers until the input ends.
func serve(in io.Reader, out io.Writer) error {
	var s server
	defer s.close()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		reply, err := s.answer(strings.Fields(lines.Text()))
		if err != nil {
			reply = "error " + strings.ReplaceAll(err.Error(), "\n", "; ")
		} else {
			reply = strings.TrimSpace("ok " + reply)
		}
		if _, err := fmt.Fprintln(out, reply); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (s *server) answer(words []string) (string, error) {
	switch {
	case len(words) == 7 && words[0] == "load":
		return "", s.load(words[1], words[2:5], words[5])
	case len(words) == 2 && words[0] == "first" && s.workload != nil:
		tensors, err := s.workload.first()
		if err != nil {
			return "", err
		}
		return "", writeTensors(words[1], tensors)
	case len(words) == 2 && words[0] == "step" && s.workload != nil:
		n, err := strconv.Atoi(words[1])
		if err != nil {
			return "", err
		}
		return s.step(n)
	case len(words) == 1 && words[0] == "memory":
		return peak()
	case len(words) == 5 && words[0] == "open" && s.loop == nil:
		n, err := integers(words[1:3])
		if err != nil {
			return "", err
		}
		s.loop, err = openLoop(way(words[4]), words[3], n[0], n[1])
		return "", err
	case len(words) == 3 && words[0] == "train" && s.loop != nil:
		n, err := integers(words[1:3])
		if err != nil {
			return "", err
		}
		ms, wait, err := s.loop.train(n[0], n[1])
		return fmt.Sprintf("%.3f %.3f", ms, wait), err
	}
	return "", fmt.Errorf("bench: serve: cannot %q now", words)
}

func integers(words []string) ([]int, error) {
	var list []int
	for _, word := range words {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// close ends what is held; the process ends next, so that an error would help nobody.
func (s *server) close() {
	if s.workload != nil {
		s.workload.close()
	}
	if s.loop != nil {
		s.loop.close()
	}
}

// load takes batch, seed and threads as numbers, and closes what was loaded before.
func (s *server) load(name string, numbers []string, folder string) error {
	parsed, err := integers(numbers)
	if err != nil {
		return err
	}
	if s.workload != nil {
		if err := s.workload.close(); err != nil {
			return err
		}
	}
	opts := alone(parsed[2])
	if name == productName {
		w, err := openProduct(opts)
		s.workload = w
		return err
	}
	list, err := chosen([]string{name})
	if err != nil {
		return err
	}
	s.workload, err = list[0].open(parsed[0], uint64(parsed[1]), opts, folder)
	return err
}

// alone are the options that distill train gives a session, with a number of threads: they spin while they wait for one another,
// as those of the peer's OpenMP do.
func alone(threads int) runtime.Options { return runtime.Options{Threads: threads, Spin: true} }

// step runs once untimed, since threads and caches are cold after the other side's turn, then n times.
func (s *server) step(n int) (string, error) {
	if err := s.workload.run(); err != nil {
		return "", err
	}
	times := make([]string, n)
	for i := range times {
		start := time.Now()
		if err := s.workload.run(); err != nil {
			return "", err
		}
		times[i] = strconv.FormatFloat(time.Since(start).Seconds()*1e3, 'f', 3, 64)
	}
	return strings.Join(times, " "), nil
}

// peak is the kernel's high-water mark of the resident set, in bytes.
func peak() (string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")))
			return strconv.Itoa(n * 1024), err
		}
	}
	return "", fmt.Errorf("bench: memory: the kernel does not say VmHWM")
}
