{
  "format": "martlet ring builder",
  "format_version": 1,
  "sha256": "4ecb6a5ddb2913029b2e1e9979cdb70dcebcf26e5062c3a85c04405fd158b749",
  "builder": {
    "part_power": 1,
    "replicas": 2,
    "version": 9,
    "devices": [
      {
        "id": 0,
        "region": 1,
        "zone": 2,
        "ip": "10.0.0.1",
        "port": 6200,
        "replication_ip": "",
        "replication_port": 0,
        "device": "sda",
        "weight": 1.5,
        "meta": "a\u003cb"
      },
      null,
      {
        "id": 2,
        "region": 1,
        "zone": 3,
        "ip": "10.0.0.2",
        "port": 6200,
        "replication_ip": "10.1.0.2",
        "replication_port": 6300,
        "device": "sda",
        "weight": 1,
        "meta": "",
        "removed": true
      }
    ],
    "rows": [
      "AAACAA==",
      "AgAAAA=="
    ]
  }
}
