package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Usage is what processes have used since they started.
type Usage struct {
	CPU float64 // seconds
	RSS float64 // bytes, now
	// Sent is how many requests they say they sent to the API server.
	Sent int
}

func (u *Usage) add(other Usage) {
	u.CPU += other.CPU
	u.RSS += other.RSS
	u.Sent += other.Sent
}

// Controllers are the processes that are measured.
type Controllers struct {
	// Metrics are the URLs of their metrics endpoints.
	Metrics []string
	// PIDs are their processes on this machine, for memory and CPU in place of
	// the endpoints.
	PIDs []int

	client http.Client
}

// Known says what can be measured.
func (c *Controllers) Known() (usage, sent bool) {
	return len(c.Metrics)+len(c.PIDs) > 0, len(c.Metrics) > 0
}

// Read returns the sum over all processes.
func (c *Controllers) Read(ctx context.Context) (Usage, error) {
	var sum Usage
	for _, url := range c.Metrics {
		u, err := c.endpoint(ctx, url)
		if err != nil {
			return sum, err
		}
		if len(c.PIDs) > 0 {
			u.CPU, u.RSS = 0, 0
		}
		sum.add(u)
	}
	for _, pid := range c.PIDs {
		u, err := process(pid)
		if err != nil {
			return sum, err
		}
		sum.add(u)
	}
	return sum, nil
}

// resident reads the memory only, by processes where they are known.
func (c *Controllers) resident(ctx context.Context) (float64, error) {
	if len(c.PIDs) == 0 {
		u, err := c.Read(ctx)
		return u.RSS, err
	}
	u, err := (&Controllers{PIDs: c.PIDs}).Read(ctx)
	return u.RSS, err
}

func (c *Controllers) endpoint(ctx context.Context, url string) (Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	const cpu, rss, sent = "process_cpu_seconds_total", "process_resident_memory_bytes", "rest_client_requests_total"
	var u Usage
	found := false
	err := fetch(ctx, &c.client, url, func(s sample) {
		switch s.name {
		case cpu:
			found = true
			u.CPU += s.value
		case rss:
			u.RSS += s.value
		case sent:
			u.Sent += int(s.value)
		}
	}, cpu, rss, sent)
	if err == nil && !found && len(c.PIDs) == 0 {
		err = fmt.Errorf("%s has no %s: give the process by -pid", url, cpu)
	}
	return u, err
}

// process reads the files of Linux about a process.
func process(pid int) (Usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Usage{}, fmt.Errorf("process %d: %w (other systems than Linux need -metrics)", pid, err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return Usage{}, fmt.Errorf("process %d: %w", pid, err)
	}
	u, err := parseProcess(stat, status)
	if err != nil {
		return u, fmt.Errorf("process %d: %w", pid, err)
	}
	return u, nil
}

// ticks is USER_HZ, in which Linux tells times to programs on every platform
// that Go supports.
const ticks = 100

// parseProcess reads proc_pid_stat(5) and proc_pid_status(5).
func parseProcess(stat, status []byte) (Usage, error) {
	var u Usage
	_, after, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(after) // from the third on: the state
	if !ok || len(fields) < 13 {
		return u, errors.New("stat is not what is known of it")
	}
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return u, fmt.Errorf("stat: %w", err)
		}
		u.CPU += n / ticks
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 64)
			u.RSS = n * 1024
			return u, err
		}
	}
	return u, errors.New("status has no VmRSS: the process has ended")
}

// Peak samples memory until ctx ends. It is safe for concurrent use.
type Peak struct {
	mu  sync.Mutex
	max float64
	err error
}

// Sample samples until ctx ends: processes ten times a second, endpoints each
// second, because answering costs them something.
func (p *Peak) Sample(ctx context.Context, c *Controllers) {
	every := time.Second
	if len(c.PIDs) > 0 {
		every = 100 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		rss, err := c.resident(ctx)
		p.mu.Lock()
		p.max = max(p.max, rss)
		if ctx.Err() == nil && err != nil {
			p.err = err
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Take returns the peak since the last call, and why samples are missing.
func (p *Peak) Take() (float64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peak, err := p.max, p.err
	p.max, p.err = 0, nil
	return peak, err
}
