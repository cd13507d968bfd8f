"""What Swift's own code says of a ring: the other side of swiftring_test.go.

Says hello, and then reads tasks: a line of JSON, and a line for each of its names, the
JSON list of account, container and object. Answers each with a line of JSON, what
the ring is, and a line for each name: partition, device ids of primaries, of handoffs.
"""
import array
import itertools
import json
import random
import sys

from swift.common import utils
from swift.common.ring import Ring, RingBuilder, RingData


def build(task):
    """Has Swift's builder make the ring, in as many steps as there are."""
    builder = RingBuilder(task['part_power'], task['replicas'], 0)
    for step in task['steps']:
        for device in step['add'] or ():
            builder.add_dev(device)
        for device in step['remove'] or ():
            builder.remove_dev(device)
        builder.set_replicas(step['replicas'])
        builder.rebalance(seed=1)
    builder.get_ring().save(task['ring'])


def scatter(task):
    """Has Swift write a ring whose partitions are anywhere: its builder is slow."""
    chance = random.Random(1)
    devices = task['steps'][0]['add']
    ids = [device['id'] for device in devices]
    left = int(task['replicas'] * 2 ** task['part_power'])
    rows = []
    while left > 0:
        row = chance.choices(ids, k=min(left, 2 ** task['part_power']))
        rows.append(array.array('H', row))
        left -= len(row)
    RingData(rows, devices, 32 - task['part_power'], version=3).save(task['ring'])


def look_up(task, lines, say):
    utils.HASH_PATH_PREFIX = task['prefix'].encode()
    utils.HASH_PATH_SUFFIX = task['suffix'].encode()
    if task['make']:
        {'build': build, 'scatter': scatter}[task['make']](task)
    ring = Ring(task['ring'], reload_time=10 ** 9)
    say(json.dumps({
        'partitions': ring.partition_count,
        'replicas': ring.replica_count,
        'version': ring.version or 0,
        'devices': [device for device in ring.devs if device],
    }) + '\n')
    for number in range(task['names']):
        part, primaries = ring.get_nodes(*json.loads(next(lines)))
        most = None if number < task['whole'] else task['handoffs']
        handoffs = itertools.islice(ring.get_more_nodes(part), most)
        say('%d %s %s\n' % (part, ','.join(str(node['id']) for node in primaries),
                            ','.join(str(node['id']) for node in handoffs)))


def main():
    lines = iter(sys.stdin.buffer)
    print('hello', flush=True)
    for line in lines:
        look_up(json.loads(line), lines, sys.stdout.write)
        sys.stdout.flush()


main()
