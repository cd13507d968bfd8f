"""Has Swift's RingBuilder go through topologies: a line of JSON in for each, and a
line of outcomes out, one for each of its changes."""

import json, sys, time
from swift.common.ring import RingBuilder

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

for line in sys.stdin:
    t = json.loads(line)
    b = RingBuilder(t['part_power'], t['replicas'], 1)
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
        out.append(o)
    print(json.dumps(out), flush=True)
