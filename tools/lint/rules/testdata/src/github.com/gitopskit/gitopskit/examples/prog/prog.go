package prog

import (
	"context"
	"log"
	"os"
)

var home = os.Getenv("HOME")

func init() { log.Println(context.Background(), home) }
