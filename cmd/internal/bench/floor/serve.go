package floor

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"martlet/internal/vfs"
)

// Serve runs a proxy and a storage server for each device of o on loopback, tells ready
// where the proxy listens, and returns when ctx ends and all of it is gone. An append that fails ends
// the connection that it was for.
func Serve(ctx context.Context, o *Options, ready func(address string) error) error {
	return serve(ctx, vfs.OS, o, ready)
}

func serve(ctx context.Context, fs vfs.FS, o *Options, ready func(address string) error) (err error) {
	s := &servers{size: o.Size, rows: o.Rows}
	var listeners []net.Listener
	defer func() {
		s.hangUp()
		for _, l := range listeners {
			_ = l.Close() // nobody else has it
		}
		s.running.Wait()
		for _, l := range s.logs {
			err = errors.Join(err, l.close())
		}
	}()
	listen := func() (net.Listener, error) {
		var c net.ListenConfig
		l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
		if err == nil {
			listeners = append(listeners, l)
		}
		return l, err
	}
	for range o.Devices {
		log, err := openLog(fs, o.Dir)
		if err != nil {
			return err
		}
		s.logs = append(s.logs, log)
		l, err := listen()
		if err != nil {
			return err
		}
		s.storage = append(s.storage, l.Addr().String())
	}
	front, err := listen()
	if err != nil {
		return err
	}
	for i, l := range listeners[:o.Devices] {
		s.running.Go(func() { s.accept(l, func() peer { return newStorage(s, i) }) })
	}
	s.running.Go(func() { s.accept(front, func() peer { return newProxy(s) }) })
	if err := ready(front.Addr().String()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// servers is what all connections share.
type servers struct {
	size    int64
	rows    bool
	logs    []*log
	storage []string // where the server of each device listens
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // mu
	ended bool              // mu
}

// peer is the server's end of one connection.
type peer interface {
	// answer answers a request of n bytes, which is in buf, and writes the answer to c.
	answer(c net.Conn, buf []byte, n int) error
	close()
}

func (s *servers) accept(l net.Listener, newPeer func() peer) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // it was closed
		}
		if s.keep(c) {
			s.running.Go(func() { s.serve(c, newPeer()) })
		}
	}
}

// keep remembers a connection, so that hangUp ends it.
func (s *servers) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		_ = c.Close() // nothing was sent on it
		return false
	}
	if s.conns == nil {
		s.conns = map[net.Conn]bool{}
	}
	s.conns[c] = true
	return true
}

func (s *servers) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.conns {
		_ = c.Close() // whoever uses it sees it
	}
}

func (s *servers) serve(c net.Conn, p peer) {
	defer func() {
		p.close()
		_ = c.Close() // the other end has gone, or is to see that
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
	buf := make([]byte, headSize+s.size)
	for {
		n, err := readMessage(c, buf)
		if err == nil {
			err = p.answer(c, buf, n)
		}
		if err != nil {
			return
		}
	}
}

// links are connections to storage servers, made as they are needed and kept.
type links []net.Conn

func (l links) to(s *servers, device int) (net.Conn, error) {
	if l[device] == nil {
		c, err := net.Dial("tcp", s.storage[device]) //nolint:noctx // on loopback, to a listener of this process
		if err != nil {
			return nil, err
		}
		if !s.keep(c) {
			return nil, net.ErrClosed
		}
		l[device] = c
	}
	return l[device], nil
}

func (l links) close() {
	for _, c := range l {
		if c != nil {
			_ = c.Close() // nothing is on its way
		}
	}
}

// proxy is the first hop.
type proxy struct {
	servers *servers
	links
}

func newProxy(s *servers) *proxy { return &proxy{s, make(links, len(s.storage))} }

func (p *proxy) answer(c net.Conn, buf []byte, n int) error {
	h := readHead(buf)
	switch h.op {
	case opGet:
		storage, err := p.to(p.servers, int(h.object%uint64(len(p.links))))
		if err != nil {
			return err
		}
		if n, err = ask(storage, buf, n); err != nil {
			return err
		}
	case opPut:
		if err := p.fanOut(h, buf, n); err != nil {
			return err
		}
		n = headSize
	default:
		return fmt.Errorf("operation %d is none of a client's", h.op)
	}
	_, err := c.Write(buf[:n])
	return err
}

// fanOut sends a body to its devices, and returns when all have answered.
func (p *proxy) fanOut(h head, buf []byte, n int) error {
	sum := md5.Sum(buf[headSize:n])
	copy(buf[sumAt:], sum[:])
	var to [Replicas]net.Conn
	for i := range to {
		storage, err := p.to(p.servers, int((h.object+uint64(i))%uint64(len(p.links))))
		if err != nil {
			return err
		}
		h.replica = byte(i)
		h.write(buf)
		if _, err := storage.Write(buf[:n]); err != nil {
			return err
		}
		to[i] = storage
	}
	for _, storage := range to {
		if _, err := readMessage(storage, buf[:headSize]); err != nil {
			return err
		}
	}
	return nil
}

// ask sends what is in buf, and reads the answer into it.
func ask(c net.Conn, buf []byte, n int) (int, error) {
	if _, err := c.Write(buf[:n]); err != nil {
		return 0, err
	}
	return readMessage(c, buf)
}

// storage is the second hop, the server of a device; that of listings as well, as
// they are on the same devices.
type storage struct {
	servers *servers
	log     *log
	waiter  *waiter
	data    []byte // what a read is answered with
	row     []byte
	links
}

func newStorage(s *servers, device int) *storage {
	data := make([]byte, headSize+s.size)
	head{op: opAnswer, size: s.size}.write(data)
	return &storage{s, s.logs[device], newWaiter(), data, make([]byte, headSize), make(links, len(s.storage))}
}

func (st *storage) answer(c net.Conn, buf []byte, n int) error {
	h := readHead(buf)
	var out []byte
	switch h.op {
	case opGet:
		out = st.data
	case opPut, opRow:
		if err := st.log.append(st.waiter, buf[:n]); err != nil {
			return err
		}
		if h.op == opPut && st.servers.rows {
			if err := st.tell(h); err != nil {
				return err
			}
		}
		out = buf[:headSize]
		head{op: opAnswer}.write(out)
	default:
		return io.ErrUnexpectedEOF
	}
	_, err := c.Write(out)
	return err
}

// tell tells the listing's replica that is this one's to tell.
func (st *storage) tell(h head) error {
	listing, err := st.to(st.servers, int(h.replica)%len(st.links))
	if err != nil {
		return err
	}
	head{op: opRow, object: h.object}.write(st.row)
	_, err = ask(listing, st.row, headSize)
	return err
}
