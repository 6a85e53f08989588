package testenv

import (
	"context"
	"os"
)

func assetsDir(o *Options) string {
	if o.Binary != "" || os.Getenv(EnvBinary) != "" {
		return ""
	}
	return os.Getenv(EnvAssets)
}

func launchAssets(ctx context.Context, dir string, o *Options) (*Server, error) {
	return nil, &Error{Op: "start", Subject: dir, Err: ErrUnsupported}
}
