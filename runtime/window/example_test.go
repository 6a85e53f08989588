package window_test

import (
	"fmt"
	"time"

	"github.com/gitopskit/gitopskit/runtime/window"
)

func Example() {
	hours := &window.Cron{Start: "0 9 * * 1-5", Duration: 8 * time.Hour, Zone: "Europe/Bucharest"}
	if err := hours.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	saturday := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	open, change := hours.At(saturday)
	fmt.Println(open, change.UTC())
	// Output: false 2026-03-30 06:00:00 +0000 UTC
}
