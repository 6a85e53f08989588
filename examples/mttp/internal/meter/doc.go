// Package meter reads what the API server has been asked and what controllers
// have used: from the metrics that both serve in the text format of
// Prometheus, and from the files of Linux about processes.
package meter
