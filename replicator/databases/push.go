package databases

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/replwire"
	"martlet/replicator"
)

const (
	// saveAfter is how many changes a peer must have come forward before that is
	// written down: to push them again costs less than a commit.
	saveAfter = 1000

	// wholeLeast is from how many changes on a database is pushed in the order of its file, and as a whole
	// where the peer has nothing: fewer fit into some parts, for which a commit each costs less
	// than another file.
	wholeLeast = 10_000

	// maxTurns is how often one push begins anew because the peer's database turns
	// out to be another than before.
	maxTurns = 3
)

// course is how a push goes.
type course struct {
	at    replwire.Cursor // what comes after it is pushed
	peer  [16]byte        // the incarnation of the peer's database; zero where it has none
	build bool            // the peer is to make the database when it has all
}

// plan returns how a database is pushed, of which the peer has none where theirs is nil; done is whether
// it is known to lack nothing at all.
func (p *pass) plan(ctx context.Context, mine, theirs *replwire.Database) (c course, done bool, err error) {
	if planted.RowsNotReplicated { // breaks: who has missed a container, or rows of it, gets them
		return c, true, nil
	}
	if theirs != nil {
		c.peer = theirs.Incarnation
		if c.at.Row, done, err = p.since(ctx, mine, theirs); done || err != nil {
			return c, done, err
		}
	}
	if behind := mine.Change - c.at.Row; behind >= wholeLeast && behind > mine.Change/2 {
		c.at = replwire.Cursor{ByName: true}
		c.build = theirs == nil
	}
	return c, false, nil
}

// push has a peer merge what is here of a database, which it has none of where
// theirs is nil. It reports whether the peer has all of mine then.
func (p *pass) push(ctx context.Context, w *work, to *replicator.Peer, mine, theirs *replwire.Database) (has bool, err error) {
	c, done, err := p.plan(ctx, mine, theirs)
	if done || err != nil {
		return done, err
	}
	for range maxTurns {
		whole := !c.at.Begun()
		first, last, now, err := p.pushFrom(ctx, w, to, mine, c)
		switch {
		case errors.Is(err, errNotWhole):
			c.build = false
			continue
		case errors.Is(err, errReplaced):
			// What it was known to have went with the one before.
			c = course{at: replwire.Cursor{ByName: mine.Change >= wholeLeast}, peer: now.Incarnation}
			continue
		case err != nil || first == nil || now == replwire.Database{}:
			return false, err // what a peer has forgotten is soon forgotten here, and only then gone
		}
		p.tried.note(first, &now, whole)
		p.learn(ctx, first, &now, last)
		// What was only believed to be there is not taken for confirmed: a handoff
		// goes when the peer was given all of it, or says that it has the same.
		return whole || now.Digest == first.Digest, nil
	}
	return false, errReplaced
}

var (
	errReplaced = errors.New("the peer's database was replaced by another while it was pushed to")
	errNotWhole = errors.New("the peer does not take the database as a whole")
)

// pushFrom pushes what comes after a cursor, up to what was there when it began.
// It returns the database as it was here at first, up to which change its rows
// went, and as it is now at the peer; first is nil where the database went away
// here, or was replaced, and now is zero where the peer has none, since all that was pushed may be
// forgotten. The error is errReplaced where the peer's is not of the incarnation that was expected, or not
// the one of before, and errNotWhole where the peer was to make it and does not.
func (p *pass) pushFrom(
	ctx context.Context, w *work, to *replicator.Peer, mine *replwire.Database, c course,
) (first *replwire.Database, last uint64, now replwire.Database, err error) {
	whole := replwire.Whole{ID: p.sender(mine.Hash)}
	for {
		part, err := p.Store.Part(ctx, p.device, mine.Hash, c.at)
		if errs.Is(err, errs.NotFound) || err == nil && part.Incarnation != mine.Incarnation {
			return nil, 0, now, nil // the next pass will see
		}
		if err != nil {
			return nil, 0, now, err
		}
		if first == nil {
			first = &part.Database
		}
		c.at = part.Next
		if c.build {
			whole.Last = c.at.Rows && !c.at.ByName
			now, err = p.sendWhole(ctx, w, to, &part, whole)
			if whole.N++; err == nil && !whole.Last {
				continue
			}
			c.build = false
		} else {
			now, err = p.send(ctx, w, to, &part)
		}
		if err != nil && !errors.Is(err, errForgotten) {
			return nil, 0, now, err
		}
		if c.peer == [16]byte{} {
			c.peer = now.Incarnation
		}
		if now.Incarnation != c.peer {
			return nil, 0, now, errReplaced
		}
		if !part.More || c.at.Rows && !c.at.ByName && c.at.Row >= first.Change {
			return first, c.at.Row, now, nil
		}
	}
}

// sender tells those apart who send a database as a whole. It is the same after a restart, so that what was cut
// off then is begun again at once.
func (p *pass) sender(hash name.Hash) (id [16]byte) {
	sum := sha256.Sum256([]byte(p.Self.String() + "/" + p.device + "/" + hash.String()))
	copy(id[:], sum[:])
	return id
}

// since returns from which change on a peer may lack rows of a database, and
// whether it is known to lack nothing at all.
func (p *pass) since(ctx context.Context, mine, theirs *replwire.Database) (row uint64, done bool, err error) {
	if whole, ok := p.tried.last(mine, theirs); ok {
		// Nothing has changed on either side since the last push, and the two still
		// differ. Either the peer has what is not here yet, or what it was believed
		// to have it has not: pushing everything once settles that.
		return 0, whole, nil
	}
	ours, then, err := p.Store.Known(ctx, p.device, mine.Hash, theirs.Incarnation)
	if errs.Is(err, errs.NotFound) {
		return 0, false, nil
	}
	if err != nil || then > theirs.Change {
		return 0, false, err // it was put back to an older state
	}
	return min(ours, mine.Change), false, nil
}

// learn remembers that a peer has the rows of a database up to a change, where
// that saves enough.
func (p *pass) learn(ctx context.Context, mine, theirs *replwire.Database, upTo uint64) {
	if upTo < saveAfter {
		return
	}
	ours, _, err := p.Store.Known(ctx, p.device, mine.Hash, theirs.Incarnation)
	if err == nil && upTo >= ours+saveAfter {
		err = p.Store.SetKnown(ctx, p.device, mine.Hash, theirs.Incarnation, upTo, theirs.Change)
	}
	if err != nil && !errs.Is(err, errs.NotFound) && ctx.Err() == nil {
		p.Log.LogAttrs(ctx, slog.LevelWarn, "what a peer has was not written down, and will be pushed again", slog.String("device", p.device),
			slog.String("kind", p.name), slog.String("hash", mine.Hash.String()), slog.Any("err", err))
	}
}

// maxTried bounds how many outcomes are remembered.
const maxTried = 10_000

// tried remembers how pushes ended after which two replicas still differed. It is
// safe for concurrent use.
type tried struct {
	mu   sync.Mutex
	ends map[pair]outcome // mu
}

// pair is the incarnations of a database here and at a peer.
type pair struct{ ours, theirs [16]byte }

// outcome is the digests after a push.
type outcome struct {
	ours, theirs [16]byte
	whole        bool // everything was pushed
}

func (t *tried) note(mine, theirs *replwire.Database, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := pair{mine.Incarnation, theirs.Incarnation}
	if mine.Digest == theirs.Digest {
		delete(t.ends, key)
		return
	}
	if t.ends == nil || len(t.ends) >= maxTried {
		t.ends = map[pair]outcome{} // forgetting costs a push
	}
	t.ends[key] = outcome{mine.Digest, theirs.Digest, whole}
}

// last returns whether the last push was of everything; ok is false where it did
// not end with what is there now.
func (t *tried) last(mine, theirs *replwire.Database) (whole, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.ends[pair{mine.Incarnation, theirs.Incarnation}]
	ok = ok && o.ours == mine.Digest && o.theirs == theirs.Digest
	return o.whole && ok, ok
}
