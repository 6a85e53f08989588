package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// measureMemory compares the heap that knowing objects takes: by our store, by informers of whole objects, and by
// informers of their metadata.
func measureMemory(ctx context.Context, sizes ...int) (*grid, error) {
	g := &grid{sides: []string{"gitopskit", "informers, whole objects", "informers, metadata"}}
	err := withServer(ctx, nil, func(config *rest.Config) error {
		var w wire
		config = w.config(config)
		types, err := newTypes(config)
		if err != nil {
			return err
		}
		before := heap()
		gvks := kindsOf(mixed(10))
		for _, gvk := range gvks {
			if _, err := types.TypeConverter(ctx, gvk); err != nil {
				return err
			}
		}
		g.add("", "the schemas of these kinds, once", "MiB", none, float64(heap()-before)/(1<<20))
		for _, n := range sizes {
			objects := mixed(n)
			s, err := newOurs(config)
			if err != nil {
				return err
			}
			if err := s.reconcile(ctx, clone(objects)); err != nil {
				return err
			}
			var figures []float64
			for _, know := range []func() (func() error, error){
				func() (func() error, error) {
					f, err := follow(config, types)
					if err != nil {
						return nil, err
					}
					return f.close, settle(ctx, &w, f, objects)
				},
				func() (func() error, error) { return informers(ctx, config, gvks, wholeInformer) },
				func() (func() error, error) { return informers(ctx, config, gvks, metadataInformer) },
			} {
				each, err := heapOf(know)
				if err != nil {
					return err
				}
				figures = append(figures, each/float64(n)/1024)
			}
			g.add("P13", fmt.Sprintf("heap per object, of %d", n), "KiB", 0.8, figures...)
			runtime.KeepAlive(objects)
		}
		return nil
	})
	return g, err
}

// heapOf returns the bytes that what know sets up takes, which it ends then.
func heapOf(know func() (end func() error, err error)) (float64, error) {
	before := heap()
	end, err := know()
	if err != nil {
		return 0, err
	}
	taken := float64(int64(heap()) - int64(before))
	return taken, end()
}

// heap returns the bytes in use.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// kindsOf returns the kinds of objects, each once.
func kindsOf(objects []*unstructured.Unstructured) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	seen := map[schema.GroupVersionKind]bool{}
	for _, o := range objects {
		if gvk := o.GroupVersionKind(); !seen[gvk] {
			seen[gvk] = true
			out = append(out, gvk)
		}
	}
	return out
}

type newInformer func(ctx context.Context, config *rest.Config, gvr schema.GroupVersionResource) (cache.SharedIndexInformer, error)

func wholeInformer(_ context.Context, config *rest.Config, gvr schema.GroupVersionResource) (cache.SharedIndexInformer, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return dynamicinformer.NewFilteredDynamicInformer(client, gvr, "", 0, cache.Indexers{}, nil).Informer(), nil
}

func metadataInformer(_ context.Context, config *rest.Config, gvr schema.GroupVersionResource) (cache.SharedIndexInformer, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return metadatainformer.NewFilteredMetadataInformer(client, gvr, "", 0, cache.Indexers{}, nil).Informer(), nil
}

// informers follow all objects of some kinds, and return when they have all of them.
func informers(ctx context.Context, config *rest.Config, kinds []schema.GroupVersionKind, fresh newInformer) (func() error, error) {
	client, err := newClient(config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	var all []cache.SharedIndexInformer
	done := make(chan struct{})
	end := func() error {
		stop()
		for range all {
			<-done
		}
		runtime.KeepAlive(all)
		return nil
	}
	for _, gvk := range kinds {
		mapping, err := client.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return nil, errors.Join(err, end())
		}
		informer, err := fresh(ctx, config, mapping.Resource)
		if err != nil {
			return nil, errors.Join(err, end())
		}
		all = append(all, informer)
		go func() {
			informer.RunWithContext(ctx)
			done <- struct{}{}
		}()
	}
	for _, informer := range all {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return nil, errors.Join(errors.New("informers did not get their objects"), end())
		}
	}
	return end, nil
}
