package ssa

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Rival is who changed an applied object, and how often it had to be repaired.
type Rival struct {
	// Manager is its name in the managed fields, empty if they do not tell.
	Manager string
	// Path is a field it changed, empty if only the managed fields differ.
	Path string
	// Repairs is how often the object was repaired after changes by the same
	// manager, less than ten minutes apart, this time included.
	Repairs int
	// Until is when the next repair is due: one second after the first, then
	// twice as long each time, up to five minutes.
	Until time.Time
}

// String says who changes what and how often it was repaired.
func (r Rival) String() string {
	manager, path := r.Manager, r.Path
	if manager == "" {
		manager = "somebody"
	}
	if path == "" {
		path = "its managed fields"
	}
	return fmt.Sprintf("%s changed %s, repaired %d times", manager, path, r.Repairs)
}

// contests remembers who changes which objects back.
type contests struct {
	mu    sync.Mutex
	known map[contestKey]*contest
}

type contestKey struct {
	kind kindKey
	name types.NamespacedName
}

type contest struct {
	rival Rival
	last  time.Time // repair
}

const (
	firstRepair = time.Second
	lastRepair  = 5 * time.Minute
	truce       = 2 * lastRepair // after which a change is no longer part of the same contest
)

// resting returns the contest over an object that must not be repaired yet.
func (c *contests) resting(key contestKey) (Rival, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.known[key]
	if known == nil || !time.Now().Before(known.rival.Until) {
		return Rival{}, false
	}
	return known.rival, true
}

// repair notes that an object is repaired now.
func (c *contests) repair(key contestKey, rival Rival) Rival {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	known := c.known[key]
	if known == nil || known.rival.Manager != rival.Manager || now.Sub(known.last) > truce {
		known = &contest{}
	}
	rival.Repairs = known.rival.Repairs + 1
	rival.Until = now.Add(min(firstRepair<<min(rival.Repairs-1, 20), lastRepair))
	if c.known == nil {
		c.known = map[contestKey]*contest{}
	}
	c.known[key] = &contest{rival: rival, last: now}
	return rival
}

func (c *contests) tidy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, known := range c.known {
		if time.Since(known.last) > truce {
			delete(c.known, key)
		}
	}
}

// rivalOf finds the manager that last wrote one of the fields that differ.
func rivalOf(live *unstructured.Unstructured, fields []FieldChange, manager string) Rival {
	var out Rival
	if len(fields) > 0 {
		out.Path = fields[0].Path
	}
	var last metav1.Time
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply || entry.Time == nil || entry.Time.Before(&last) {
			continue
		}
		set := fieldSet(entry.FieldsV1)
		if set == nil {
			continue
		}
		owned := map[string]bool{}
		for path := range set.Leaves().All() {
			owned[plain(path.String())] = true
		}
		for _, f := range fields {
			if owned["."+plain(f.Path)] || ownsBelow(owned, "."+plain(f.Path)) {
				out.Manager, out.Path, last = entry.Manager, f.Path, *entry.Time
				break
			}
		}
	}
	return out
}

var itemKey = regexp.MustCompile(`\[[^\]]*\]`)

// plain returns a path without what names the items of lists.
func plain(path string) string { return itemKey.ReplaceAllString(path, "") }

func ownsBelow(owned map[string]bool, path string) bool {
	for p := range owned {
		if strings.HasPrefix(p, path+".") {
			return true
		}
	}
	return false
}
