{
  "format": "martlet ring builder",
  "format_version": 2,
  "sha256": "8b054089cd7138b918279ec1d8408e8bb21f6c797480adbf6d85f3100b461b45",
  "builder": {
    "part_power": 1,
    "replicas": 2.5,
    "min_part_hours": 24,
    "overload": 0.125,
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
      "AAAAAAIAAAA=",
      "AgAAAAAAAAA=",
      "AAAAAA=="
    ],
    "moved": "AAAAAADxU2U="
  }
}
