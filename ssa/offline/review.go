package offline

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// isReview reports the resource by which clients ask what they may do.
func isReview(gvr schema.GroupVersionResource) bool {
	return gvr == schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}
}

// review answers that everything is allowed: there is no authorization.
func review(obj *unstructured.Unstructured) *unstructured.Unstructured {
	obj = obj.DeepCopy()
	obj.Object["status"] = map[string]any{"allowed": true, "reason": "an offline cluster has no authorization"}
	return obj
}
