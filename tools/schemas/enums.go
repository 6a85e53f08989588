package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// enums reads the allowed values of fields, which the OpenAPI documents in the
// module lack although the server publishes them, from the generated code that
// the server compiles in. It returns, for each definition, the part of its
// schema that leads to the enums.
func enums(dir string) (map[string]map[string]any, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "pkg/generated/openapi/zz_generated.openapi.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	packages := map[string]string{}
	for _, spec := range file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		packages[name] = p
	}
	functions := map[string]*ast.FuncDecl{}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			functions[f.Name.Name] = f
		}
	}
	list, ok := functions["GetOpenAPIDefinitions"]
	if !ok {
		return nil, fmt.Errorf("the generated code has no GetOpenAPIDefinitions")
	}
	out := map[string]map[string]any{}
	ast.Inspect(list, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		call, ok := pair.Value.(*ast.CallExpr)
		if !ok {
			return true
		}
		of, ok := call.Fun.(*ast.Ident)
		if !ok || functions[of.Name] == nil {
			return true
		}
		if part := enumsOf(functions[of.Name]); part != nil {
			out[definitionName(pair.Key, packages)] = part
		}
		return false
	})
	return out, nil
}

// definitionName returns io.k8s.api.apps.v1.Deployment of the expression
// "k8s.io/api/apps/v1.Deployment" or appsv1.Deployment{}.OpenAPIModelName().
func definitionName(key ast.Expr, packages map[string]string) string {
	var name string
	switch key := key.(type) {
	case *ast.BasicLit:
		name = strings.Trim(key.Value, `"`)
	case *ast.CallExpr:
		method, ok := key.Fun.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		value, ok := method.X.(*ast.CompositeLit)
		if !ok {
			return ""
		}
		of, ok := value.Type.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		pkg, ok := of.X.(*ast.Ident)
		if !ok {
			return ""
		}
		name = packages[pkg.Name] + "." + of.Sel.Name
	}
	host, rest, _ := strings.Cut(name, "/")
	parts := strings.Split(host, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".") + "." + strings.ReplaceAll(rest, "/", ".")
}

// enumsOf returns the part of the schema in f that leads to enums, nil without any.
func enumsOf(f *ast.FuncDecl) map[string]any {
	var out map[string]any
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok && out == nil && selector(lit.Type) == "SchemaProps" {
			out = enumsIn(lit)
			return false
		}
		return true
	})
	return out
}

// enumsIn returns the same for a SchemaProps literal.
func enumsIn(props *ast.CompositeLit) map[string]any {
	out := map[string]any{}
	for _, elt := range props.Elts {
		pair, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		field, ok := pair.Key.(*ast.Ident)
		if !ok {
			continue
		}
		switch field.Name {
		case "Enum":
			out["enum"] = literals(pair.Value)
		case "Properties":
			found := map[string]any{}
			for _, p := range elements(pair.Value) {
				if part := nested(p.Value); part != nil {
					if key, ok := p.Key.(*ast.BasicLit); ok {
						found[strings.Trim(key.Value, `"`)] = part
					}
				}
			}
			if len(found) > 0 {
				out["properties"] = found
			}
		case "Items", "AdditionalProperties":
			if part := nested(pair.Value); part != nil {
				out[strings.ToLower(field.Name[:1])+field.Name[1:]] = part
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// nested finds the SchemaProps literal below an expression.
func nested(e ast.Expr) map[string]any {
	var out map[string]any
	ast.Inspect(e, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok || out != nil {
			return out == nil
		}
		if name, ok := pair.Key.(*ast.Ident); ok && name.Name == "SchemaProps" {
			if lit, ok := pair.Value.(*ast.CompositeLit); ok {
				out = enumsIn(lit)
			}
			return false
		}
		return true
	})
	return out
}

func elements(e ast.Expr) []*ast.KeyValueExpr {
	var out []*ast.KeyValueExpr
	if lit, ok := e.(*ast.CompositeLit); ok {
		for _, elt := range lit.Elts {
			if pair, ok := elt.(*ast.KeyValueExpr); ok {
				out = append(out, pair)
			}
		}
	}
	return out
}

func literals(e ast.Expr) []any {
	var out []any
	if lit, ok := e.(*ast.CompositeLit); ok {
		for _, elt := range lit.Elts {
			if b, ok := elt.(*ast.BasicLit); ok {
				if text, err := strconv.Unquote(b.Value); err == nil {
					out = append(out, text)
				}
			}
		}
	}
	return out
}

func selector(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// merge adds part to a schema.
func merge(schema any, part map[string]any) {
	into, ok := schema.(map[string]any)
	if !ok {
		return
	}
	for key, value := range part {
		if deeper, ok := value.(map[string]any); ok {
			merge(into[key], deeper)
			continue
		}
		into[key] = value
	}
}
