package container

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"martlet/internal/listing"
	"martlet/internal/metadb"
)

// killDir names the environment variable that makes the test below the process
// that is killed, and says where its device is; killRound tells its rows from
// those of the processes before it.
const (
	killDir   = "MARTLET_TEST_KILL_DIR"
	killRound = "MARTLET_TEST_KILL_ROUND"
)

// A process that is killed at any moment has on its device whatever it
// acknowledged, and what it counts is what it lists.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		serveUntilKilled(t, dir, os.Getenv(killRound))
		return
	}
	dir := t.TempDir()
	told := acked{}
	const kills = 10
	for round := range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledServerKeepsWhatItAcknowledged$")
		cmd.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("%s=%d", killRound, round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := 20 + rand.IntN(400)
		for lines := bufio.NewScanner(out); lines.Scan(); left-- {
			told.hear(t, lines.Text())
			if left == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); left > 0 {
			t.Fatalf("round %d ended by itself: %v", round, err)
		}
		told.check(t, dir)
	}
}

// serveUntilKilled writes rows, and says so on its output: before it deletes
// one, and after each answer.
func serveUntilKilled(t *testing.T, dir, round string) {
	s, _ := start(t, dir)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			ask := func(line string, headers ...string) bool {
				resp, err := s.Serve(context.Background(), request(line, headers...))
				if err != nil || resp.Status/100 != 2 {
					t.Errorf("%s: %+v, %v", line, resp, err)
				}
				return !t.Failed()
			}
			own, shared := fmt.Sprintf("own-%s-%d", round, w), fmt.Sprintf("shared-%d", w%2)
			for _, c := range []string{own, shared} {
				if !ask("PUT /sda/0/a/"+c, at(1)) {
					return
				}
			}
			for i := range 1000 {
				c := own
				if i%2 == 0 {
					c = shared
				}
				row := fmt.Sprintf("%s-%d-%d", round, w, i)
				if !ask("PUT /sda/0/a/"+c+"/"+row, object(10, i)...) {
					return
				}
				say("put", c, row)
				if i%3 == 0 {
					say("deleting", c, row)
					if !ask("DELETE /sda/0/a/"+c+"/"+row, at(11)) {
						return
					}
					say("deleted", c, row)
				}
			}
		})
	}
	wg.Wait()
}

// say writes a line at once: it is out before anyone can kill what comes after.
func say(what, container, row string) { fmt.Printf("%s %s %s\n", what, container, row) }

// acked is what was said last of each row of each container.
type acked map[string]map[string]string

func (a acked) hear(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	if len(f) != 3 {
		t.Fatalf("the process says %q", line)
	}
	if a[f[1]] == nil {
		a[f[1]] = map[string]string{}
	}
	a[f[1]][f[2]] = f[0]
}

// check opens what is on the device and compares.
func (a acked) check(t *testing.T, dir string) {
	t.Helper()
	s, _ := start(t, dir)
	for c, rows := range a {
		answer := want(t, s, 200, "GET /sda/0/a/"+c)
		list, err := listing.DecodeObjects([]byte(answer.body))
		if err != nil {
			t.Fatal(err)
		}
		bytes, listed := int64(0), map[string]bool{}
		for _, o := range list {
			listed[o.Name] = true
			bytes += o.Bytes
		}
		for row, said := range rows {
			if said == "put" && !listed[row] || said == "deleted" && listed[row] {
				t.Errorf("of %s/%s the last word was %s; listed is %v", c, row, said, listed[row])
			}
		}
		n, b := answer.header.Get("X-Container-Object-Count"), answer.header.Get("X-Container-Bytes-Used")
		if n != fmt.Sprint(len(list)) || b != fmt.Sprint(bytes) {
			t.Errorf("%s counts %s rows of %s bytes, and lists %d of %d", c, n, b, len(list), bytes)
		}
	}
	dev, err := s.core.Devices.Lookup("sda")
	if err != nil {
		t.Fatal(err)
	}
	for hash, err := range s.Store().Walk(t.Context(), dev) {
		if err == nil {
			err = s.Store().Check(t.Context(), metadb.Location{Device: dev, Hash: hash})
		}
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
