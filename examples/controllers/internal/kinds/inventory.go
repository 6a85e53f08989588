package kinds

import (
	"context"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/ssa"
)

// statusInventory keeps the inventory in the status of a Kustomization, and
// writes it to the API server before anything is applied.
type statusInventory struct {
	o    *kustomizev1.Kustomization
	pass *kube.Pass
}

// Load reads the inventory.
func (s *statusInventory) Load(context.Context) (*ssa.Inventory, error) {
	inv, err := form[*ssa.Inventory](s.o.Status.Inventory)
	if inv == nil {
		inv = &ssa.Inventory{}
	}
	return inv, in("status.inventory", err)
}

// Save writes the inventory.
func (s *statusInventory) Save(ctx context.Context, inv *ssa.Inventory) (err error) {
	if s.o.Status.Inventory, err = form[*kustomizev1.ResourceInventory](inv); err != nil {
		return err
	}
	return s.pass.Record(ctx)
}
