// Command waiting says what tools that wait make of objects: kstatus, as Flux and Helm use it, and a health check of
// Argo CD, with the interpreter that Argo CD runs it in.
//
// In: the file of the Lua script as argument, a JSON list of objects on standard input. Out: a JSON list of
// {"kstatus", "argo", "message"}, in the same order.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Kstatus string `json:"kstatus"`
	Argo    string `json:"argo"`
	Message string `json:"message"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: waiting SCRIPT <OBJECTS")
	}
	script, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var objects []map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return fmt.Errorf("failed to read the objects: %w", err)
	}
	verdicts := make([]verdict, 0, len(objects))
	for number, object := range objects {
		found, err := judge(string(script), object)
		if err != nil {
			return fmt.Errorf("object %d: %w", number, err)
		}
		verdicts = append(verdicts, found)
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

func judge(script string, object map[string]any) (verdict, error) {
	// unstructured wants whole numbers to be int64, as the API machinery's own decoder makes them.
	computed, err := status.Compute(&unstructured.Unstructured{Object: whole(object).(map[string]any)})
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus: %w", err)
	}
	// As in Argo CD: only the libraries that do not reach outside.
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}, {lua.StringLibName, lua.OpenString}} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			return verdict{}, err
		}
	}
	state.SetGlobal("obj", table(state, object))
	if err := state.DoString(script); err != nil {
		return verdict{}, fmt.Errorf("script: %w", err)
	}
	health, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return verdict{}, fmt.Errorf("script: it returned no table")
	}
	return verdict{
		Kstatus: computed.Status.String(),
		Argo:    health.RawGetString("status").String(),
		Message: health.RawGetString("message").String(),
	}, nil
}

func whole(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			value[key] = whole(member)
		}
	case []any:
		for index, member := range value {
			value[index] = whole(member)
		}
	case float64:
		return int64(value)
	}
	return value
}

func table(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		made := state.NewTable()
		for key, member := range value {
			made.RawSetString(key, table(state, member))
		}
		return made
	case []any:
		made := state.NewTable()
		for _, member := range value {
			made.Append(table(state, member))
		}
		return made
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	}
	return lua.LNil
}
