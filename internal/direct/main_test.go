package direct

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// serveEnv makes the test binary the bare server of the benchmarks, so that what
// getrusage says of the benchmark's process is the client's alone.
const serveEnv = "DIRECT_BARE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serveEnv) != "" {
		if err := bareServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// bareServer answers every request with the same 4 KiB until its stdin ends.
func bareServer() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go bareLoop(c)
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

var bareAnswer = append([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nEtag: 0cc175b9c0f1b6a831c399e269772661\r\n"+
	"Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT\r\nX-Timestamp: 1700000000.00000\r\nX-Backend-Timestamp: 1700000000.00000\r\n"+
	"X-Backend-Data-Timestamp: 1700000000.00000\r\nAccept-Ranges: bytes\r\nX-Object-Meta-Colour: green\r\nContent-Length: 4096\r\n\r\n"),
	bytes.Repeat([]byte("x"), 4096)...)

func bareLoop(c net.Conn) {
	defer func() { _ = c.Close() }()
	buf, n := make([]byte, 4096), 0
	for {
		m, err := c.Read(buf[n:])
		if err != nil || n+m == len(buf) {
			return
		}
		if n += m; !bytes.HasSuffix(buf[:n], headEnd) {
			continue
		}
		n = 0
		if _, err := c.Write(bareAnswer); err != nil {
			return
		}
	}
}

// startBare runs bareServer in a process of its own and returns its address.
func startBare(tb testing.TB) string {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serveEnv+"="+strconv.Itoa(os.Getpid()))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("server: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return line[:len(line)-1]
}
