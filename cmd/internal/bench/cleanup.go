package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"martlet/cmd/internal/bench/swift"
)

// Cleaned is what was taken away.
type Cleaned struct {
	Objects    int64 `json:"objects"`
	Containers int   `json:"containers"`
}

// Cleanup takes away what the runs of a name have made, or, where it is "", what any have: containers
// that this package names, and all that is in them. It deletes nothing else. Names are looked for again
// as long as a container isn't empty, so that a delete that fails is made again.
func Cleanup(ctx context.Context, c swift.Credentials, o swift.Options, name string, doing func(string)) (Cleaned, error) {
	client, err := swift.Open(ctx, c, o)
	if err != nil {
		return Cleaned{}, err
	}
	defer client.Close()
	return cleanup(ctx, client, name, o.Connections, func(format string, args ...any) {
		if doing != nil {
			doing(fmt.Sprintf(format, args...))
		}
	})
}

// cleanTries is how often a container is looked at that can't be deleted, and cleanPause how long it is
// waited for in between: listings may be late.
const (
	cleanTries = 10
	cleanPause = time.Second
)

// page is how many names are asked for at one time.
const page = 5_000

func cleanup(ctx context.Context, client *swift.Client, name string, hands int, doing func(string, ...any)) (done Cleaned, err error) {
	sender := client.Sender(0)
	for marker := ""; ; {
		names, err := names(ctx, sender, "", Prefix, marker)
		if err != nil || len(names) == 0 {
			return done, err
		}
		for _, c := range names {
			if !ours(c, name) {
				continue
			}
			n, err := empty(ctx, client, sender, c, hands, doing)
			done.Objects += n
			if err != nil {
				return done, fmt.Errorf("container %s: %w", c, err)
			}
			done.Containers++
		}
		marker = names[len(names)-1]
	}
}

// ours reports whether a container is one of the runs of a name, or of any.
func ours(container, name string) bool {
	rest, ok := strings.CutPrefix(container, Prefix)
	at := strings.LastIndexByte(rest, '-')
	if !ok || at < 1 || name != "" && rest[:at] != name {
		return false
	}
	digits := rest[at+1:]
	return digits != "" && strings.Trim(digits, "0123456789") == ""
}

// names lists a page of an account's containers, or of a container's objects.
func names(ctx context.Context, s *swift.Sender, container, prefix, marker string) ([]string, error) {
	var text strings.Builder
	a, err := s.Do(ctx, swift.Request{Method: "GET", Container: swift.Quote(container), List: &swift.Listing{Limit: page, Prefix: prefix, Marker: marker}}, func(p []byte) { text.Write(p) })
	switch {
	case err != nil:
		return nil, err
	case a.Status == 404 && container != "":
		return nil, nil
	case a.Status/100 != 2:
		return nil, fmt.Errorf("its listing was answered with %d", a.Status)
	case text.Len() == 0:
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n"), nil
}

// empty deletes what is in a container, and then itself.
func empty(ctx context.Context, client *swift.Client, s *swift.Sender, container string, hands int, doing func(string, ...any)) (gone int64, err error) {
	for try := 0; ; {
		all, err := names(ctx, s, container, "", "")
		if err != nil {
			return gone, err
		}
		if len(all) > 0 {
			n, err := drop(ctx, client, container, all, hands)
			gone += n
			doing("clean-up: %d objects of %s", gone, container)
			if err == nil && n > 0 {
				try = 0
				continue
			}
			if try++; try == cleanTries {
				if err == nil {
					err = errors.New("it lists objects that are not there")
				}
				return gone, err
			}
		} else {
			a, err := s.Do(ctx, swift.Request{Method: "DELETE", Container: swift.Quote(container)}, nil)
			if err == nil && (a.Status == 204 || a.Status == 404) {
				return gone, nil
			}
			if try++; try == cleanTries {
				if err == nil {
					err = fmt.Errorf("its delete was answered with %d", a.Status)
				}
				return gone, err
			}
		}
		select {
		case <-ctx.Done():
			return gone, ctx.Err()
		case <-time.After(cleanPause):
		}
	}
}

// drop deletes objects, many at a time. It goes on after an error, and returns one of them; those that
// were not there are none, and don't count.
func drop(ctx context.Context, client *swift.Client, container string, all []string, hands int) (gone int64, err error) {
	var (
		mu      sync.Mutex // guards what follows, and gone and err
		next    int
		workers sync.WaitGroup
	)
	take := func() (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(all) || ctx.Err() != nil {
			return "", false
		}
		next++
		return all[next-1], true
	}
	for i := range min(hands, len(all)) {
		workers.Go(func() {
			s := client.Sender(i)
			for object, ok := take(); ok; object, ok = take() {
				a, wrong := s.Do(ctx, swift.Request{Method: "DELETE", Container: swift.Quote(container), Object: swift.Quote(object)}, nil)
				if wrong == nil && a.Status != 204 && a.Status != 404 {
					wrong = fmt.Errorf("the delete of %s was answered with %d", object, a.Status)
				}
				mu.Lock()
				if wrong != nil {
					err = wrong
				} else if a.Status == 204 {
					gone++
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return gone, err
}
