package main

import (
	"context"
	"fmt"
	"path/filepath"

	"martlet/cmd/internal/bench/swift"
)

// startMinIO has MinIO in one process, as Martlet is, with four drives, of which any two may be lost, and every write
// synced. It keeps twice the bytes, and Martlet three times.
func startMinIO(_ context.Context, o *options, dir, network string) (*store, error) {
	program, err := find("-minio", o.minio)
	if err != nil {
		return nil, err
	}
	const key, secret = "compare", "comparecompare"
	env := []string{
		"MINIO_ROOT_USER=" + key, "MINIO_ROOT_PASSWORD=" + secret, "MINIO_STORAGE_CLASS_STANDARD=EC:2", "MINIO_FS_OSYNC=on",
		"MINIO_CI_CD=1", // else drives have to be disks of their own
		"MINIO_UPDATE=off", "MINIO_BROWSER=off", "HOME=" + dir,
	}
	address := network + ".0.1:9000"
	s := &store{credentials: swift.Credentials{URL: "http://" + address, User: key, Key: secret, S3: &swift.S3{Region: "us-east-1"}}}
	args := []string{"server", "--quiet", "--address", address}
	for i := range 4 {
		args = append(args, filepath.Join(dir, fmt.Sprintf("d%d", i+1)))
	}
	return s, s.begin(dir, "minio", env, program, args...)
}
