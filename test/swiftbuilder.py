"""Has Swift's RingBuilder go through topologies: a line of JSON in for each, and a
line of outcomes out, one for each of its changes, with the ring that it came to."""

import base64, json, os, sys, tempfile, time
from swift.common.ring import RingBuilder, RingData

def rows(b):
    return [list(r) for r in b._replica2part2dev] if b._replica2part2dev else []

def moved(before, after):
    n = 0
    for p in range(len(after[0])):
        was = [r[p] for r in before if p < len(r)]
        for r in after:
            if p < len(r):
                if r[p] in was:
                    was.remove(r[p])
                elif before:
                    n += 1
    return n

def start(t):
    if not t.get('start'):
        return RingBuilder(t['part_power'], t['replicas'], 1)
    with tempfile.NamedTemporaryFile(suffix='.ring.gz') as f:
        f.write(base64.b64decode(t['start']))
        f.flush()
        r = RingData.load(f.name)
    b = RingBuilder(t['part_power'], r.replica_count, 1)
    b.devs = [d and dict(d, parts=0, parts_wanted=0) for d in r.devs]
    b._replica2part2dev = r._replica2part2dev_id
    for row in rows(b):
        for i in row:
            b.devs[i]['parts'] += 1
    b.set_overload(t['overload'])
    return b

def ring(b):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'object.ring.gz')
        b.get_ring().save(path)
        with open(path, 'rb') as f:
            return base64.b64encode(f.read()).decode()

for line in sys.stdin:
    t = json.loads(line)
    b = start(t)
    out = []
    for c in t['changes']:
        if c.get('replicas'):
            b.set_replicas(c['replicas'])
        if c.get('overload') is not None:
            b.set_overload(c['overload'])
        for i in c.get('remove', ()):
            b.remove_dev(i)
        for i, w in c.get('weights', {}).items():
            b.set_dev_weight(int(i), w)
        for d in c.get('add', ()):
            d.pop('id')
            b.add_dev(d)
        o = {'moved': 0, 'rounds': 0, 'seconds': 0}
        for n in range(t['rounds'] or 10):
            before = rows(b)
            b.pretend_min_part_hours_passed()
            began = time.time()
            b.rebalance(seed=t['seed'] + n)
            o['seconds'] += time.time() - began
            m = moved(before, rows(b))
            o['moved'] += m
            if before == rows(b):
                break
            o['rounds'] += 1
        o['balance'] = b.get_balance()
        o['dispersion'] = b.dispersion
        o['ring'] = ring(b)
        out.append(o)
    print(json.dumps(out), flush=True)
