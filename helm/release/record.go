package release

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/release"
)

// Record is one revision of a release as Helm stores it. Members of the stored
// form that Helm v3 does not know, at the top and in info, such as
// apply_method of Helm v4, survive when a record is read and saved.
type Record struct {
	// Release is the content, in Helm's own type.
	Release *release.Release
	// Version is for the use of the store, to notice other writers; empty for
	// a record that was not stored yet.
	Version string

	unknown, unknownInfo map[string]json.RawMessage
}

// applyMethod is the member in which Helm v4 says how objects are applied.
const applyMethod = "apply_method"

// ApplyMethod is how the objects of the release were applied: "ssa", "csa", or
// empty in records of Helm v3.
func (r *Record) ApplyMethod() string {
	var method string
	if json.Unmarshal(r.unknown[applyMethod], &method) != nil {
		return "" // absent, or not a string, which Helm never writes
	}
	return method
}

func (r *Record) setApplyMethod(method string) {
	if r.unknown == nil {
		r.unknown = map[string]json.RawMessage{}
	}
	r.unknown[applyMethod], _ = json.Marshal(method) // a string can always be encoded
}

// MarshalJSON writes the form that Helm stores.
func (r *Record) MarshalJSON() ([]byte, error) {
	out, err := members(r.Release)
	if err != nil {
		return nil, err
	}
	if r.Release.Info != nil && len(r.unknownInfo) > 0 {
		info, err := members(r.Release.Info)
		if err != nil {
			return nil, err
		}
		addMissing(info, r.unknownInfo)
		if out["info"], err = json.Marshal(info); err != nil {
			return nil, err
		}
	}
	addMissing(out, r.unknown)
	return json.Marshal(out)
}

// UnmarshalJSON reads the form that Helm stores.
func (r *Record) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	content := &release.Release{}
	if err := errors.Join(json.Unmarshal(data, &raw), json.Unmarshal(data, content)); err != nil {
		return err
	}
	switch {
	case content.Name == "" || content.Version <= 0:
		return errors.New("it has no name or no version")
	case content.Info == nil:
		return errors.New("it has no info")
	case slices.Contains(content.Hooks, nil):
		return errors.New("it has an empty hook")
	}
	r.Release = content
	r.unknown = others(raw, "name", "info", "chart", "config", "manifest", "hooks", "version", "namespace")
	var info map[string]json.RawMessage
	if err := json.Unmarshal(raw["info"], &info); err != nil {
		return err
	}
	r.unknownInfo = others(info, "first_deployed", "last_deployed", "deleted", "description", "status", "notes", "resources")
	return nil
}

// members returns the JSON members of v.
func members(v any) (map[string]json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out map[string]json.RawMessage
	return out, json.Unmarshal(data, &out)
}

func others(all map[string]json.RawMessage, known ...string) map[string]json.RawMessage {
	out := maps.Clone(all)
	for _, k := range known {
		delete(out, k)
	}
	return out
}

func addMissing(dst, src map[string]json.RawMessage) {
	for k, v := range src {
		if _, set := dst[k]; !set {
			dst[k] = v
		}
	}
}

// Encode returns what Helm puts into the data of a Secret: JSON, compressed,
// in base64.
func Encode(r *Record) ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return []byte(base64.StdEncoding.EncodeToString(b.Bytes())), nil
}

// Decode reads what Helm puts into the data of a Secret, which may be
// compressed or not. A record that is more than limit bytes of JSON is
// [ErrLimit], anything else that cannot be read [ErrCorrupt].
func Decode(data []byte, limit int64) (*Record, error) {
	raw, err := base64.StdEncoding.AppendDecode(nil, data)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not base64", ErrCorrupt)
	}
	if bytes.HasPrefix(raw, []byte("\x1f\x8b\x08")) {
		unzipped, err := gzip.NewReader(bytes.NewReader(raw))
		if err == nil {
			raw, err = io.ReadAll(io.LimitReader(unzipped, limit+1))
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrLimit, limit)
	}
	r := &Record{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrCorrupt, withoutContent(err))
	}
	return r, nil
}

// withoutContent keeps of a JSON error what cannot repeat the record, which
// holds values.
func withoutContent(err error) string {
	if strings.HasPrefix(err.Error(), "it has ") {
		return err.Error()
	}
	return "it is not the JSON of a release"
}

// status returns the status of a record.
func (r *Record) status() release.Status { return r.Release.Info.Status }

func (r *Record) set(status release.Status, description string) {
	r.Release.Info.Status, r.Release.Info.Description = status, description
}

// clone returns a copy whose status and hooks can change.
func (r *Record) clone() *Record {
	out := *r
	content, info := *r.Release, *r.Release.Info
	content.Info = &info
	content.Hooks = nil
	for _, h := range r.Release.Hooks {
		hook := *h
		content.Hooks = append(content.Hooks, &hook)
	}
	out.Release = &content
	out.unknown, out.unknownInfo = maps.Clone(r.unknown), maps.Clone(r.unknownInfo)
	return &out
}
