package observe

import "embed"

// Dashboards has dashboards for Grafana, in the form that it imports, which ask
// for a data source of Prometheus: dashboards/control-plane.json (work and
// waits), dashboards/delivery.json (from commit to ready) and
// dashboards/tenants.json (objects by namespace). The last one needs
// gitopskit_resource_info.
//
//go:embed dashboards/*.json
var Dashboards embed.FS

// Rules is a file of alerts for Prometheus: nothing is reconciled, objects fail
// for 15 minutes, are stalled, are suspended for longer than they were to be,
// wait long for a worker, events are dropped, no metrics come in.
//
//go:embed alerts.yaml
var Rules []byte
