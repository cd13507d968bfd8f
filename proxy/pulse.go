package proxy

import (
	"io"
	"time"
)

// pulsing writes chunks to a device that takes a long silence for a proxy that is gone. Where
// chunks are long in coming, since a whole segment has to be there before any of it can be
// sent, the end of each is kept back and goes out byte by byte until the next is there.
type pulsing struct {
	to    io.Writer
	every time.Duration // 0 keeps nothing back
	tail  []byte        // what is kept back; room for all that ever is
	timer *time.Timer
}

const (
	// pulseEvery is far below what is taken for silence anywhere.
	pulseEvery = 5 * time.Second
	// pulseTail lasts for more than five hours, so that a client may take as long for
	// a segment.
	pulseTail = 4 << 10
)

// write sends what was kept back and the chunk, but for the end of that.
func (p *pulsing) write(chunk []byte) error {
	if p.every == 0 {
		_, err := p.to.Write(chunk)
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	from := max(0, len(chunk)-pulseTail)
	if p.tail == nil {
		p.tail = make([]byte, 0, pulseTail)
	}
	p.tail = append(p.tail[:0], chunk[from:]...)
	_, err := p.to.Write(chunk[:from])
	return err
}

// next waits for the next chunk of a queue; nil where it was closed.
func (p *pulsing) next(queue <-chan *chunk) (*chunk, error) {
	if p.every == 0 {
		return <-queue, nil
	}
	select {
	case c := <-queue:
		return c, nil
	default:
	}
	if p.timer == nil {
		p.timer = time.NewTimer(p.every)
	}
	defer p.timer.Stop()
	for {
		p.timer.Reset(p.every)
		select {
		case c := <-queue:
			return c, nil
		case <-p.timer.C:
		}
		if len(p.tail) > 0 {
			if _, err := p.to.Write(p.tail[:1]); err != nil {
				return nil, err
			}
			p.tail = append(p.tail[:0], p.tail[1:]...)
		}
	}
}

// flush sends what was kept back.
func (p *pulsing) flush() error {
	if len(p.tail) == 0 {
		return nil
	}
	_, err := p.to.Write(p.tail)
	p.tail = p.tail[:0]
	return err
}
