package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"
)

// Status is how far a cache has come, in records.
type Status struct {
	Records int   `json:"records"`        // of a whole cache
	Whole   int   `json:"whole"`          // in finished shards
	Started int   `json:"started"`        // shards under way
	Bytes   int64 `json:"bytes"`          // on disk
	Busy    bool  `json:"busy"`           // a process is writing it
	Views   int   `json:"complete_views"` // views of which each record is there
}

// Complete reports whether every record is there.
func (s Status) Complete() bool { return s.Whole == s.Records }

// Status looks at the names and sizes of the shards, not into them.
func (c *Cache) Status() (Status, error) {
	st := Status{Records: c.samples * c.views}
	entries, err := os.ReadDir(c.folder)
	if err != nil {
		return st, fmt.Errorf("cache: %w", err)
	}
	perView := map[int]int{}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // finished meanwhile
		}
		if err != nil {
			return st, fmt.Errorf("cache: %w", err)
		}
		st.Bytes += allocated(info)
		var number int
		if _, err := fmt.Sscanf(e.Name(), "%d", &number); err != nil || !isShard(e.Name()) || number >= c.layout.shards() {
			continue
		}
		if filepath.Ext(e.Name()) == partSuffix {
			st.Started++
			continue
		}
		st.Whole += c.layout.records(number)
		if perView[number/c.perView]++; perView[number/c.perView] == c.perView {
			st.Views++
		}
	}
	if c.Writable() {
		return st, nil
	}
	f, err := os.OpenFile(filepath.Join(c.folder, lockName), os.O_RDWR, 0)
	if err != nil {
		return st, nil // nobody has written, or we cannot: a writer is not to be seen
	}
	defer f.Close()
	st.Busy = errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	return st, nil
}

// allocated is what a file takes on disk, which is less than its size where nothing was written yet.
func allocated(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

var (
	shardName     = regexp.MustCompile(`^[0-9]{6,8}\.(shard|part)$`)
	temporaryName = regexp.MustCompile(`^\.cache\.json\.[0-9a-f]{16}\.tmp$`)
)

func isShard(name string) bool     { return shardName.MatchString(name) }
func isTemporary(name string) bool { return temporaryName.MatchString(name) }

// Verify reads every record of the finished shards and returns what is wrong with them: one error for each shard at most.
// Observe is told how many shards are done.
func (c *Cache) Verify(ctx context.Context, observe func(done, total int)) (damaged []error, err error) {
	total := c.layout.shards()
	for number := range total {
		if err := ctx.Err(); err != nil {
			return damaged, err
		}
		if err := c.verifyShard(number); err != nil {
			damaged = append(damaged, err)
		}
		observe(number+1, total)
	}
	return damaged, nil
}

func (c *Cache) verifyShard(number int) error {
	s, err := c.openWhole(number)
	if err != nil || s == nil {
		return err
	}
	defer s.close()
	for place := range s.records {
		if err := s.read(c.bytes, place); err != nil {
			return err
		}
	}
	return nil
}

// Free is how many bytes can be written to the disk of a folder, which need not exist yet.
func Free(folder string) (int64, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return 0, fmt.Errorf("cache: %w", err)
	}
	for {
		var st unix.Statfs_t
		err := unix.Statfs(folder, &st)
		if err == nil {
			return int64(st.Bavail) * int64(st.Bsize), nil
		}
		if parent := filepath.Dir(folder); errors.Is(err, os.ErrNotExist) && parent != folder {
			folder = parent
			continue
		}
		return 0, fmt.Errorf("cache: free space of %s: %w", folder, err)
	}
}
