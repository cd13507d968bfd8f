# What compare wants of Swift, with its own code: rings, and a server.
#
#   servers.py rings FOLDER NETWORK NODES DEVICES
#   servers.py SERVER FILE        account, container, object or proxy, as swift-SERVER-server does
import sys
from os.path import dirname, join


def rings(folder, network, nodes, devices):
    from swift.common.ring import RingBuilder
    for server, port in (('object', 6200), ('container', 6201), ('account', 6202)):
        builder = RingBuilder(part_power=10, replicas=3, min_part_hours=1)
        for n in range(1, nodes + 1):
            for d in range(1, devices + 1):
                builder.add_dev({'region': 1, 'zone': n, 'ip': '%s.1.%d' % (network, n), 'port': port,
                                 'device': 'd%d' % d, 'weight': 100})
        builder.rebalance(seed='1')
        builder.get_ring().save(join(folder, server + '.ring.gz'))


def serve(server, config):
    from swift.common import utils
    utils.SWIFT_CONF_FILE = join(dirname(config), 'swift.conf')  # before policies are read from it
    from swift.common.wsgi import run_wsgi
    options = {}
    if server == 'object':
        from swift.obj.server import global_conf_callback
        options['global_conf_callback'] = global_conf_callback
    return run_wsgi(config, server + '-server', **options)


if sys.argv[1] == 'rings':
    rings(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    sys.exit(serve(sys.argv[1], sys.argv[2]))
