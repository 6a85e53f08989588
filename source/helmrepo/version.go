package helmrepo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Version is one version of a chart in an index.
type Version struct {
	Name, Version, AppVersion string
	// URLs are where the package is, absolute or relative to the repository.
	URLs []string
	// Digest is that of the package; empty when the index does not say.
	Digest digest.Digest
	// Created is when the package was made, zero when the index does not say.
	Created    time.Time
	Deprecated bool

	semver *semver.Version
}

// entry is a Version as an index has it. What is malformed in one entry is left
// out and harms no other.
type entry struct {
	Version
	skip bool
}

// UnmarshalJSON never fails: repositories hold all kinds of things.
func (e *entry) UnmarshalJSON(data []byte) error {
	var raw struct {
		Name       text     `json:"name"`
		Version    text     `json:"version"`
		AppVersion text     `json:"appVersion"`
		URLs       []string `json:"urls"`
		Digest     text     `json:"digest"`
		Created    text     `json:"created"`
		Deprecated bool     `json:"deprecated"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		e.skip = true
		return nil //nolint:nilerr // see above
	}
	e.Version = Version{Name: string(raw.Name), Version: string(raw.Version), AppVersion: string(raw.AppVersion), URLs: raw.URLs, Deprecated: raw.Deprecated}
	e.Created, _ = time.Parse(time.RFC3339, string(raw.Created))
	if hex := strings.TrimPrefix(strings.ToLower(string(raw.Digest)), "sha256:"); hex != "" {
		e.Digest = digest.Digest("sha256:" + hex)
	}
	return nil
}

// text is a string that YAML may take for a number, as versions do.
type text string

// UnmarshalJSON takes what is there.
func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		s = string(data)
	}
	*t = text(s)
	return nil
}

// sorted are the usable versions of a chart, the highest first; of equal ones
// the newest.
func sorted(name string, entries []*entry) []Version {
	var versions []Version
	for _, e := range entries {
		if e == nil || e.skip || len(e.URLs) == 0 || e.Name != "" && e.Name != name {
			continue
		}
		v, err := semver.NewVersion(e.Version.Version)
		if err != nil {
			continue
		}
		e.Name, e.semver = name, v
		versions = append(versions, e.Version)
	}
	slices.SortStableFunc(versions, func(a, b Version) int {
		if c := b.semver.Compare(a.semver); c != 0 {
			return c
		}
		return b.Created.Compare(a.Created)
	})
	return versions
}

// pick is the version that is asked for: exactly that text, or the highest in a
// range.
func pick(name string, versions []Version, want string) (Version, error) {
	if len(versions) == 0 {
		return Version{}, fmt.Errorf("%w: the repository has no chart %s", source.ErrNotFound, name)
	}
	for _, v := range versions {
		if v.Version == want {
			return v, nil
		}
	}
	ranges, err := semver.NewConstraint(orLatest(want))
	if err != nil {
		return Version{}, fmt.Errorf("%w: version %q: %w", source.ErrInvalidSpec, want, err)
	}
	for _, v := range versions {
		if ranges.Check(v.semver) {
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("%w: none of %d versions of chart %s matches %q", source.ErrNotFound, len(versions), name, orLatest(want))
}

// orLatest is the range for no version: any that is not a prerelease.
func orLatest(version string) string {
	if version == "" {
		return "*"
	}
	return version
}

// Versions lists the versions of a chart in a repository over HTTP, the highest
// first. Entries that are malformed are left out.
func (r *Repository) Versions(ctx context.Context, name string) ([]Version, error) {
	var versions []Version
	err := r.operation(ctx, "list versions of "+name+" in", r.String(), func(ctx context.Context) error {
		if r.url == nil {
			return fmt.Errorf("%w: an OCI registry has no index: list the tags by package oci", source.ErrInvalidSpec)
		}
		i, err := r.refresh(ctx)
		if err != nil {
			return err
		}
		found, err := i.find(name)
		versions = slices.Clone(found)
		return err
	})
	return versions, err
}
