package replwire

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"reflect"
	"testing"

	"martlet/internal/name"
	"martlet/internal/timestamp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenFile is a list as a file has it, what is in it, and what reading it gives.
type goldenFile struct {
	made []byte
	want any
	read func([]byte) (any, error)
}

func goldenFiles() map[string]goldenFile {
	q := Question{Before: at(170_000_000_000_000).WithOffset(3), Parts: []Extent{
		{Range: name.PartitionRange(4, 3), Sum: Digest{0xaa, 15: 1}}, {Range: name.Range{Prefix: 0xabcdef << 40, Depth: 24}, Sum: Digest{0xbb}},
	}}
	asked := q.Append(nil)
	a := Answer{Answered: 2, Differ: []Difference{{1, Digest{0xcc}, 258}}}
	results := []Result{{201, true, ""}, {409, false, "it is older"}}
	wants := someWanted(2)
	given := []Archive{{Here, []byte("an archive")}, {Given: Unread}}
	objects := []Object{
		{Hash: name.Hash{1}, Kind: Waiting, Times: timestamp.Packed{ContentType: at(5), Meta: at(6)}, MetaSum: 7, TypeSum: 8},
		{
			Hash: name.Hash{2}, Kind: Data, Times: timestamp.Packed{Data: at(5).WithOffset(9), ContentType: at(7), Meta: at(6)},
			MD5: [16]byte{0xd4, 15: 1}, Length: 258, CRC: 0xcafe, SystemSum: 1, MetaSum: 2, TypeSum: 3,
		},
		{Hash: name.Hash{3}, Kind: Tombstone, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(5)}},
		{Hash: name.Hash{4}, Kind: Lost, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(5)}},
	}
	databases := []Database{{Hash: name.Hash{1}, Incarnation: [16]byte{2}, Change: 258, Digest: Digest{3}}, {Hash: name.Hash{5}, Change: 1}}
	writes := []Write{{name.Hash{1}, at(7).WithOffset(9), [16]byte{2}}, {name.Hash{}, at(1), [16]byte{}}}
	said := []Judged{{Newer, true}, {Unsure, false}}
	held := []Holding{{Partition: 3, Sum: Digest{4}, Objects: 5, Bytes: 600, Lost: 1}, {Partition: 9, Objects: 1}}
	names := []name.Hash{{1}, {1, 1}, {2, 15: 9}}
	commits := someCommits(2)
	from, to := everything()

	lists := func(kind byte, n int, record func(b []byte, i int) []byte) []byte {
		b := Begin(nil, kind)
		for i := range n {
			b = record(b, i)
		}
		return End(b, n, true)
	}
	hashList := BeginHashes(nil)
	for _, h := range names {
		hashList = append(hashList, h[:]...)
	}
	database := func(kind byte) goldenFile {
		return goldenFile{
			lists(kind, len(databases), func(b []byte, i int) []byte { return AppendDatabase(b, &databases[i]) }), databases,
			func(b []byte) (any, error) { list, _, err := ParseDatabases(b, kind, from, to); return list, err },
		}
	}
	return map[string]goldenFile{
		"question": {asked, q, func(b []byte) (any, error) { return ParseQuestion(b) }},
		"answer":   {a.Append(nil, asked, 2), a, func(b []byte) (any, error) { return ParseAnswer(b, &q, asked) }},
		"pushes":   {encodePushes(samplePushes()), samplePushes(), func(b []byte) (any, error) { return ParsePushes(b) }},
		"results":  {AppendResults(nil, results), results, func(b []byte) (any, error) { return ParseResults(b, len(results)) }},
		"wanted":   {AppendWanted(nil, wants), wants, func(b []byte) (any, error) { return ParseWanted(b) }},
		"archives": {
			answerOf(AppendWanted(nil, wants), given), given,
			func(b []byte) (any, error) { return ParseArchives(b, len(given), AppendWanted(nil, wants)) },
		},
		"objects": {
			lists(Objects, len(objects), func(b []byte, i int) []byte { return AppendObject(b, &objects[i]) }), objects,
			func(b []byte) (any, error) { list, _, err := ParseObjects(b, from, to); return list, err },
		},
		"accounts":   database(Accounts),
		"containers": database(Containers),
		"commits": {encoded(commits, true), commits, func(b []byte) (any, error) {
			list, _, err := ParseCommits(b, hashOf, from, to)
			return list, err
		}},
		"writes":   {AppendWrites(nil, writes), writes, func(b []byte) (any, error) { return ParseWrites(b) }},
		"verdicts": {AppendVerdicts(nil, AppendWrites(nil, writes), said), said, func(b []byte) (any, error) { return ParseVerdicts(b, 2, AppendWrites(nil, writes)) }},
		"holdings": {AppendHoldings(nil, held, true), held, func(b []byte) (any, error) {
			list, _, err := ParseHoldings(b, 4, 0)
			return list, err
		}},
		"hashes": {End(hashList, len(names), true), names, func(b []byte) (any, error) {
			list, _, ok, err := ParseHashes(b, from, to)
			if err == nil && !ok {
				err = errors.New("it is taken for another list")
			}
			return list, err
		}},
		"whole": {[]byte(Whole{ID: [16]byte{1, 15: 0xab}, N: 7, Last: true}.String()), Whole{ID: [16]byte{1, 15: 0xab}, N: 7, Last: true}, func(b []byte) (any, error) { return ParseWhole(string(b)) }},
	}
}

// The golden files are what version 1 looks like: nodes of one cluster may be of several releases, of which each reads what the other
// writes. So they are read, and what is written is still the same.
func TestGolden(t *testing.T) {
	for what, g := range goldenFiles() {
		file := "testdata/v1-" + what + ".golden"
		if *update {
			if err := os.WriteFile(file, g.made, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(g.made, kept) {
			t.Errorf("%s: made is %q, want %q, %v", file, g.made, kept, err)
		}
		if got, err := g.read(kept); err != nil || !reflect.DeepEqual(got, g.want) {
			t.Errorf("%s is read as %+v, %v, want %+v", file, got, err, g.want)
		}
	}
}
