package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rules are what others that speak this API got wrong, where no other test shows
// it: docs/testing.md has the whole list. Each has containers of its own.
var rules = map[string]func(*testing.T, *cluster, *api){
	"every answer has a transaction id":     ruleIDs,
	"parameters are UTF-8":                  ruleParameters,
	"what HEAD, 204 and 304 say":            ruleHeads,
	"methods and lengths":                   ruleLengths,
	"a client's time decides nothing":       ruleTime,
	"no header of the cluster gets through": ruleInside,
	"an Accept header of any length":        ruleAccept,
	"limits count bytes":                    ruleBytes,
	"empty metadata":                        ruleEmptyMetadata,
	"pages of listings":                     rulePages,
	"listings sort by bytes":                ruleOrder,
	"forms of listings":                     ruleForms,
	"referrers count in their order":        ruleReferrers,
	"a container that was there before":     ruleAgain,
	"content types are guessed":             ruleTypes,
	"what a POST leaves":                    rulePost,
	"copies":                                ruleCopies,
	"expiry is a number":                    ruleExpiry,
	"expired, and opened":                   ruleOpened,
	"a manifest's header as it was sent":    ruleManifestHeader,
	"large objects of more than a page":     ruleSegments,
	"a large object is overwritten":         ruleOverwritten,
	"signing in":                            ruleSignIn,
	"who sees an account's ACL":             ruleAccountACL,
	"quotas":                                ruleQuotas,
	"web sites":                             ruleSite,
	"forms in web pages":                    ruleForm,
}

// TestRules is them, on one cluster.
func TestRules(t *testing.T) {
	t.Parallel()
	c, me := clusterWith(t, "allow_open_expired = true\nlimits = { container_listing_limit = 6 }")
	for name, run := range rules {
		t.Run(name, func(t *testing.T) { run(t, c, me) })
	}
}

// clusterWith runs a cluster whose proxy is configured as said, and signs in.
func clusterWith(t *testing.T, set string) (*cluster, *api) {
	t.Helper()
	c := newCluster(t)
	c.configure(t, "proxy.toml", func(was []byte) []byte {
		return bytes.Replace(was, []byte("[proxy]\n"), []byte("[proxy]\n"+set+"\n"), 1)
	})
	for n := range c.nodes { // what has expired is there until a test has looked at it
		c.configure(t, fmt.Sprintf("storage%d.toml", n+1), func(was []byte) []byte { return append(was, "\n[expirer]\ndelay = \"1m\"\n"...) })
	}
	c.start(t)
	return c, signIn(t, c.url(), "test:tester", "testing")
}

// awaitLog waits until a line of the proxy's log has all of the texts.
func (c *cluster) awaitLog(t *testing.T, texts ...string) {
	t.Helper()
	poll(t, 10*time.Second, "the log has it", func() error {
		log, err := os.ReadFile(filepath.Join(c.dir, "log", "proxy.log"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(log)) {
			if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
				return nil
			}
		}
		return fmt.Errorf("no line has %q", texts)
	})
}

// rawAnswer is an answer as it came.
type rawAnswer struct {
	status int
	head   string // as it was sent, the empty line at its end left out
	header http.Header
	body   string
}

// dialRaw opens a connection and sends the head of a request of a client, without
// an empty line at its end.
func dialRaw(t *testing.T, a *api, method, path string, lines ...string) net.Conn {
	t.Helper()
	host, base, _ := strings.Cut(strings.TrimPrefix(a.url, "http://"), "/")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it may be closed already
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(path, "//") {
		path = "/" + base + path
	} else {
		path = path[1:]
	}
	head := append([]string{method + " " + path + " HTTP/1.1", "Host: " + host, "Connection: close", "X-Auth-Token: " + a.token}, lines...)
	if _, err := io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// rawCall sends what no HTTP library sends, and reads until the server closes the
// connection. A path that begins with two slashes is not below the account.
func rawCall(t *testing.T, a *api, method, path, body string, lines ...string) rawAnswer {
	t.Helper()
	conn := dialRaw(t, a, method, path, lines...)
	if _, err := io.WriteString(conn, "\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return readRaw(t, method+" "+path, conn)
}

func readRaw(t *testing.T, what string, conn net.Conn) rawAnswer {
	t.Helper()
	all, err := io.ReadAll(conn)
	// What is refused in the middle is not read to its end: on a busy machine the rest of it comes when nobody is there for it.
	if err != nil && !(errors.Is(err, syscall.ECONNRESET) && bytes.Contains(all, []byte("\r\n\r\n"))) {
		t.Fatalf("%s: %v after %q", what, err, all)
	}
	head, text, ok := strings.Cut(string(all), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	code, err := strconv.Atoi(strings.Split(lines[0]+"  ", " ")[1])
	if !ok || err != nil {
		t.Fatalf("%s: the answer is %q", what, all)
	}
	got := rawAnswer{status: code, head: head, header: http.Header{}, body: text}
	for _, l := range lines[1:] {
		n, v, _ := strings.Cut(l, ":")
		got.header.Add(n, strings.TrimSpace(v))
	}
	return got
}

func ruleIDs(t *testing.T, _ *cluster, me *api) {
	nobody := &api{url: me.url}
	for what, a := range map[string]rawAnswer{
		"a success":         rawCall(t, me, "GET", "", ""),
		"not found":         rawCall(t, me, "GET", "/none/o", ""),
		"not signed in":     rawCall(t, nobody, "GET", "", ""),
		"no method":         rawCall(t, me, "BREW", "", ""),
		"the root":          rawCall(t, me, "GET", "//", ""),
		"no path of ours":   rawCall(t, me, "GET", "//v1", ""),
		"health":            rawCall(t, me, "GET", "//healthcheck", ""),
		"info":              rawCall(t, me, "GET", "//info", ""),
		"a token":           rawCall(t, me, "GET", "//auth/v1.0", ""),
		"NUL in the path":   rawCall(t, me, "GET", "/c/%00", ""),
		"a malformed path":  rawCall(t, me, "GET", "/c/%zz", ""),
		"a malformed line":  rawCall(t, me, "GET ", "", ""),
		"a malformed field": rawCall(t, me, "GET", "", "", "X-Object-Meta-\xe2\x98\x83: v"),
		"an endless line":   rawCall(t, me, "GET", "/c/"+strings.Repeat("o", 9000), ""),
	} {
		id := a.header["X-Trans-Id"]
		if len(id) != 1 || !strings.HasPrefix(id[0], "tx") || !slices.Equal(a.header["X-Openstack-Request-Id"], id) {
			t.Errorf("%s: %d with ids %q and %q", what, a.status, id, a.header["X-Openstack-Request-Id"])
		}
	}
}

func ruleParameters(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/params", "")
	for _, n := range []string{"marker", "end_marker", "prefix", "delimiter", "path", "format"} {
		for _, path := range []string{"", "/params"} {
			me.want(t, 400, "GET", path+"?"+n+"=%ff", "")
			me.want(t, 400, "HEAD", path+"?"+n+"=%c3", "")
		}
	}
	for _, path := range []string{"/params/%00", "/params/%ff", "/%00", "/a%00/b", "/params/%c3%28", "/params/%ed%a0%80"} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if a := rawCall(t, me, method, path, "", "Content-Length: 0"); a.status != 412 {
				t.Errorf("%s %s: %d, want 412", method, path, a.status)
			}
		}
	}
}

// ruleHeads: HEAD has the length that GET has, of an account and a container 0 with
// a 204; what has no body has none, and does not say otherwise.
func ruleHeads(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/heads", "")
	me.want(t, 201, "PUT", "/heads/o", "0123456789", "Content-Type", "text/x")
	for path, want := range map[string]int{"/heads/o": 200, "/heads/none": 404, "/none": 404, "/none/o": 404} {
		get, head := rawCall(t, me, "GET", path, ""), rawCall(t, me, "HEAD", path, "")
		if get.status != want || head.status != want || head.body != "" || head.header.Get("Content-Length") != strconv.Itoa(len(get.body)) ||
			get.header.Get("Content-Length") != head.header.Get("Content-Length") || get.header.Get("Content-Type") != head.header.Get("Content-Type") {
			t.Errorf("%s:\n%s\nand %q\nto HEAD:\n%s\nand %q", path, get.head, get.body, head.head, head.body)
		}
	}
	for _, path := range []string{"", "/heads", "?format=json", "/heads?format=xml"} {
		a := rawCall(t, me, "HEAD", path, "")
		if a.status != 204 || a.body != "" || a.header.Get("Content-Length") != "0" {
			t.Errorf("HEAD %q:\n%s", path, a.head)
		}
	}
	etag := rawCall(t, me, "GET", "/heads/o", "", "If-None-Match: "+sum("0123456789"))
	if etag.status != 304 || etag.body != "" || etag.header["Content-Length"] != nil || etag.header.Get("Etag") != sum("0123456789") {
		t.Errorf("304:\n%s\nand %q", etag.head, etag.body)
	}
	for _, a := range []rawAnswer{
		rawCall(t, me, "POST", "/heads", "", "X-Container-Meta-A: 1"), rawCall(t, me, "DELETE", "/heads/o", ""), rawCall(t, me, "GET", "/heads", ""),
	} {
		if a.status != 204 || a.body != "" || a.header.Get("Content-Length") != "0" {
			t.Errorf("204:\n%s\nand %q", a.head, a.body)
		}
	}
}

func ruleLengths(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/lengths", "")
	for _, tt := range []struct {
		line string
		want int
	}{
		{"Content-Length: -1", 400}, {"Content-Length: ten", 400}, {"Content-Length: 1.0", 400}, {"Content-Length: +4", 400}, {"X: no length", 411},
		{"Transfer-Encoding: gzip,chunked", 501}, {"Transfer-Encoding: gzip", 501}, {"Content-Length: 5368709123", 413},
	} {
		if a := rawCall(t, me, "PUT", "/lengths/o", "", tt.line); a.status != tt.want {
			t.Errorf("PUT with %s: %d, want %d", tt.line, a.status, tt.want)
		}
		me.want(t, 404, "GET", "/lengths/o", "")
	}
	const common = "DELETE, GET, HEAD, OPTIONS, POST, PUT"
	for path, allow := range map[string]string{"": "GET, HEAD, OPTIONS, POST", "/lengths": common, "/lengths/o": common} {
		for _, method := range []string{"BREW", "TRACE", "get", "PATCH", "UPDATE", "REPLICATE"} {
			if a := rawCall(t, me, method, path, ""); a.status != 405 || a.header.Get("Allow") != allow {
				t.Errorf("%s %q: %d, Allow %q, want %q", method, path, a.status, a.header.Get("Allow"), allow)
			}
		}
		if path == "/lengths/o" {
			allow += ", COPY"
		}
		has(t, me.want(t, 200, "OPTIONS", path, ""), "Allow", allow)
	}
}

func ruleTime(t *testing.T, _ *cluster, me *api) {
	began := time.Now()
	me.want(t, 201, "PUT", "/time", "", "X-Timestamp", "1.00000")
	me.want(t, 201, "PUT", "/time/o", "x", "X-Timestamp", "1.00000")
	me.want(t, 201, "PUT", "/time/o", "xy", "X-Timestamp", "9999999999.00000")
	me.want(t, 201, "PUT", "/time/o", "xyz", "X-Timestamp", "2.00000")
	for _, path := range []string{"/time/o", "/time"} {
		a := me.call(t, "HEAD", path, nil)
		stamp, err := strconv.ParseFloat(a.Header.Get("X-Timestamp"), 64)
		modified, err2 := http.ParseTime(a.Header.Get("Last-Modified"))
		if err != nil || err2 != nil || stamp < float64(began.Unix()) || stamp > float64(time.Now().Unix()+1) {
			t.Fatalf("%s: %v, %v %v", path, a.Header, err, err2)
		}
		if up := float64(modified.Unix()) - stamp; up < 0 || up >= 1 {
			t.Errorf("%s: Last-Modified is %v after X-Timestamp, want it rounded up to a second", path, up)
		}
	}
	text(t, me.want(t, 200, "GET", "/time/o", ""), "xyz")
	// A listing has the microseconds.
	stamp := me.want(t, 200, "HEAD", "/time/o", "").Header.Get("X-Timestamp")
	row := rowsOf(t, me.want(t, 200, "GET", "/time?format=json", ""))[0]
	at, err := time.Parse("2006-01-02T15:04:05.000000", fmt.Sprint(row["last_modified"]))
	if got := fmt.Sprintf("%d.%05d", at.Unix(), at.Nanosecond()/10_000); err != nil || got != stamp {
		t.Errorf("the listing says %v (%s), %v, want %s", row["last_modified"], got, err, stamp)
	}
	me.want(t, 204, "DELETE", "/time/o", "", "X-Timestamp", "3.00000")
	me.want(t, 404, "GET", "/time/o", "")
}

// ruleInside: a request is not led elsewhere by headers of the cluster's own, which
// a listener here would see.
func ruleInside(t *testing.T, _ *cluster, me *api) {
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = trap.Close() }()
	reached := make(chan string, 1)
	go func() {
		if conn, err := trap.Accept(); err == nil {
			reached <- conn.RemoteAddr().String()
			_ = conn.Close()
		}
	}()
	var pairs []string
	for _, of := range []string{"Container", "Account", "Delete-At"} {
		pairs = append(pairs, "X-"+of+"-Host", trap.Addr().String(), "X-"+of+"-Device", "d1", "X-"+of+"-Partition", "1")
	}
	pairs = append(pairs, "X-Delete-At-Container", "c", "X-Container-Root-Db-State", "sharded", "X-Backend-Storage-Policy-Index", "7",
		"X-Backend-Replication", "true", "X-Backend-Clean-Expiring-Object-Queue", "true", "X-Backend-Only-Ask", "true", "X-Backend-Any-Policy", "true", "X-Backend-Etag-Is-At", "X-Timestamp",
		"X-Backend-Open-Expired", "true", "X-Object-Sysmeta-Slo-Size", "9")
	me.want(t, 201, "PUT", "/trap", "", pairs...)
	me.want(t, 201, "PUT", "/trap/o", "x", append(pairs, "X-Delete-After", "1000")...)
	me.want(t, 202, "POST", "/trap/o", "", append(pairs, "X-Delete-After", "1000")...)
	text(t, me.want(t, 200, "GET", "/trap", "", pairs...), "o\n")
	me.want(t, 201, "COPY", "/trap/o", "", append(pairs, "Destination", "trap/p")...)
	me.want(t, 204, "DELETE", "/trap/o", "", pairs...)
	text(t, me.want(t, 200, "GET", "/trap", ""), "p\n")
	select {
	case from := <-reached:
		t.Errorf("%s was led to an address of the client's", from)
	default:
	}
}

// ruleAccept: what a client accepts is read in time that does not explode, and is not
// read where it is longer than a header may be.
func ruleAccept(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/accept", "")
	for _, part := range []string{",", ";", "a/b,", "text/plain;q=0.1,", "*/*;q=", `"`, "text/plain;", "\t"} {
		accept := strings.Repeat(part, 8000/len(part))
		began := time.Now()
		a := me.call(t, "GET", "/accept", nil, "Accept", accept)
		if took := time.Since(began); a.StatusCode >= 500 || took > time.Second {
			t.Errorf("Accept of %d times %q: %s after %v", len(accept)/len(part), part, a.Status, took)
		}
	}
	me.want(t, 400, "GET", "/accept", "", "Accept", strings.Repeat("a/b,", 5000))
}

func ruleBytes(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/bytes", "")
	me.want(t, 400, "PUT", "/"+strings.Repeat("%C3%A4", 129), "")
	me.want(t, 201, "PUT", "/"+strings.Repeat("%C3%A4", 128), "")
	me.want(t, 201, "PUT", "/bytes/"+strings.Repeat("%C3%A4", 512), "")
	for _, path := range []string{"/bytes/o", "/bytes"} {
		kind, good := "Container", 202
		if strings.HasSuffix(path, "/o") {
			kind, good = "Object", 201
		}
		me.want(t, good, "PUT", path, "", "X-"+kind+"-Meta-A", strings.Repeat("ä", 128))
		me.want(t, 400, "PUT", path, "", "X-"+kind+"-Meta-A", strings.Repeat("ä", 128)+"x")
		me.want(t, 400, "PUT", path, "", "X-Whatever", strings.Repeat("v", 8193))
		me.want(t, good, "PUT", path, "", "X-Whatever", strings.Repeat("v", 8192))
	}
	// The whole of what an account has is bounded as well.
	other := signIn(t, me.cluster(), "test2:tester2", "testing2")
	full := 0
	for i := range 30 {
		if a := other.call(t, "POST", "", nil, fmt.Sprintf("X-Account-Meta-F%02d", i), strings.Repeat("v", 250)); a.StatusCode == 400 {
			full = i
			break
		}
	}
	if full != 16 { // 16 * (3 + 250) = 4048
		t.Errorf("metadata of %d requests fit an account, want 16", full)
	}
	for i := range full {
		other.want(t, 204, "POST", "", "", fmt.Sprintf("X-Account-Meta-F%02d", i), "")
	}
}

// cluster is the URL of what a client's account is on.
func (a *api) cluster() string { return a.url[:strings.Index(a.url, "/v1/")] }

func ruleEmptyMetadata(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/empties", "", "X-Container-Meta-A", "1", "X-Container-Meta-B", "2")
	me.want(t, 204, "POST", "/empties", "", "X-Container-Meta-A", "")
	has(t, me.want(t, 204, "HEAD", "/empties", ""), "X-Container-Meta-A", "-", "X-Container-Meta-B", "2")
	me.want(t, 201, "PUT", "/empties/o", "x", "X-Object-Meta-A", "", "X-Object-Meta-B", "2")
	has(t, me.want(t, 200, "HEAD", "/empties/o", ""), "X-Object-Meta-A", "-", "X-Object-Meta-B", "2")
	me.want(t, 202, "POST", "/empties/o", "", "X-Object-Meta-B", "", "X-Object-Meta-C", "3")
	has(t, me.want(t, 200, "HEAD", "/empties/o", ""), "X-Object-Meta-B", "-", "X-Object-Meta-C", "3")
	me.want(t, 400, "POST", "/empties/o", "", "X-Object-Meta-", "v")
	me.want(t, 400, "POST", "/empties", "", "X-Container-Meta-", "")
	me.want(t, 400, "POST", "", "", "X-Account-Meta-", "v")
}

func ruleSignIn(t *testing.T, c *cluster, me *api) {
	at := &api{url: c.url()}
	for what, tt := range map[string]struct{ path, user, key string }{
		"as others do":      {"/auth/v1.0", "X-Auth-User: test:tester", "X-Auth-Key: testing"},
		"under older names": {"/auth/v1.0", "X-Storage-User: test:tester", "X-Storage-Pass: testing"},
		"account in it":     {"/auth/v1/test/auth", "X-Auth-User: test:tester", "X-Auth-Key: testing"},
		"both":              {"/auth/v1/test/auth", "X-Storage-User: tester", "X-Storage-Pass: testing"},
	} {
		a := rawCall(t, at, "GET", "/"+tt.path, "", tt.user, tt.key)
		left, err := strconv.Atoi(a.header.Get("X-Auth-Token-Expires"))
		if a.status != 200 || a.header.Get("X-Storage-Url") != me.url || err != nil || left <= 0 || left > 86400 ||
			a.header.Get("X-Auth-Token") == "" || a.header.Get("X-Auth-Token") != a.header.Get("X-Storage-Token") {
			t.Errorf("%s:\n%s", what, a.head)
		}
		text(t, (&api{url: me.url, token: a.header.Get("X-Auth-Token")}).want(t, 204, "HEAD", "", ""), "")
	}
	for _, path := range []string{"/auth/v1/test2/auth", "/auth/v1/none/auth"} {
		if a := rawCall(t, at, "GET", "/"+path, "", "X-Storage-User: tester", "X-Auth-Key: testing"); a.status != 401 {
			t.Errorf("%s: %d, want 401", path, a.status)
		}
	}
	// Who is not known is asked for more, who is known and may not is not.
	has(t, (&api{url: me.url}).want(t, 401, "HEAD", "", ""), "Www-Authenticate", `Swift realm="AUTH_test"`)
	stranger := signIn(t, c.url(), "test2:tester2", "testing2")
	stranger.url = me.url
	has(t, stranger.want(t, 403, "HEAD", "", ""), "Www-Authenticate", "-")
	if got := (&api{url: c.url() + "/v1/AUTH%22%0d%0a"}).call(t, "GET", "", nil); got.StatusCode != 401 || strings.ContainsAny(got.Header.Get("Www-Authenticate")[len("Swift realm="):], "\r\n") ||
		strings.Count(got.Header.Get("Www-Authenticate"), `"`) != 2 {
		t.Errorf("a name with a quote in it: %s, %q", got.Status, got.Header.Get("Www-Authenticate"))
	}
}

func ruleAccountACL(t *testing.T, c *cluster, _ *api) {
	owner := signIn(t, c.url(), "admin:admin", "admin")
	stranger := signIn(t, c.url(), "test2:tester2", "testing2")
	stranger.url = owner.url
	owner.want(t, 204, "POST", "", "", "X-Account-Access-Control", `{ "read-write" : ["test2:tester2"],  "admin": [] }`)
	has(t, owner.want(t, 204, "HEAD", "", ""), "X-Account-Access-Control", `{"admin":[],"read-write":["test2:tester2"]}`)
	has(t, stranger.want(t, 204, "HEAD", "", ""), "X-Account-Access-Control", "-")
	for _, bad := range []string{`{"other":[]}`, `{"admin":"x"}`, `[]`, `{`, `{"admin":[1]}`} {
		owner.want(t, 400, "POST", "", "", "X-Account-Access-Control", bad)
	}
	stranger.want(t, 201, "PUT", "/acl-of-theirs", "")
	// Who may write is not who may say who may.
	stranger.want(t, 403, "POST", "", "", "X-Account-Access-Control", `{"admin":["test2:tester2"]}`)
	owner.want(t, 204, "POST", "", "", "X-Account-Access-Control", `{"admin":["test2:tester2"]}`)
	has(t, stranger.want(t, 204, "HEAD", "", ""), "X-Account-Access-Control", `{"admin":["test2:tester2"]}`)
	owner.want(t, 204, "POST", "", "", "X-Account-Access-Control", "")
	stranger.want(t, 403, "HEAD", "", "")
	owner.want(t, 204, "DELETE", "/acl-of-theirs", "")
}

// TestBodiesThatDoNotCome: a client that is silent in the middle of a body is told
// so, and one that ends it early gets no object for it.
func TestBodiesThatDoNotCome(t *testing.T) {
	c, me := clusterWith(t, `client_timeout = "1s"`)
	http.DefaultClient.CloseIdleConnections() // the proxy will, at any moment now
	if a := rawCall(t, me, "PUT", "/bodies", "", "Content-Length: 0"); a.status != 201 {
		t.Fatalf("PUT: %d", a.status)
	}
	logged := func(name string, status int) {
		t.Helper()
		c.awaitLog(t, "/bodies/"+name+" ", fmt.Sprintf(" status=%d ", status))
	}
	// Half of it, and silence.
	slow := dialRaw(t, me, "PUT", "/bodies/slow", "Content-Length: 10", "", "half")
	if a := readRaw(t, "a slow client", slow); a.status != 408 {
		t.Errorf("a slow client: %d, want 408", a.status)
	}
	logged("slow", 408)
	// Half of it, and the end.
	for name, lines := range map[string][]string{"short": {"Content-Length: 10", "", "half"}, "cut": {"Transfer-Encoding: chunked", "", "4", "half", "6"}} {
		conn := dialRaw(t, me, "PUT", "/bodies/"+name, lines...)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if a := readRaw(t, name, conn); a.status != 499 {
			t.Errorf("%s: %d, want 499", name, a.status)
		}
		logged(name, 499)
	}
	for path, want := range map[string]int{"/bodies": 204, "/bodies/slow": 404, "/bodies/short": 404, "/bodies/cut": 404} {
		if a := rawCall(t, me, "GET", path, ""); a.status != want {
			t.Errorf("GET %s: %d, want %d", path, a.status, want)
		}
	}
}
