// SPDX-License-Identifier: Apache-2.0

// Decodes request bodies as an Ollama server does and prints what it found. Made `bodies.jsonl`:
// each line of standard input is a body in base64. Duration and the handling of options are those
// of api/types.go (v0.33.0-rc2), the decoder is gin's: the first value of the body, by Go's
// encoding/json. Built with Go 1.26.8: go run decode.go < bodies.base64
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"time"
)

type Duration struct{ time.Duration }

func (d *Duration) UnmarshalJSON(b []byte) (err error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	d.Duration = 5 * time.Minute
	switch t := v.(type) {
	case float64:
		if t < 0 {
			d.Duration = time.Duration(math.MaxInt64)
		} else {
			d.Duration = time.Duration(t * float64(time.Second))
		}
	case string:
		d.Duration, err = time.ParseDuration(t)
		if err != nil {
			return err
		}
		if d.Duration < 0 {
			d.Duration = time.Duration(math.MaxInt64)
		}
	default:
		return fmt.Errorf("Unsupported type: '%s'", reflect.TypeOf(v))
	}
	return nil
}

type Req struct {
	Model     string         `json:"model"`
	Prompt    string         `json:"prompt"`
	Stream    *bool          `json:"stream,omitempty"`
	KeepAlive *Duration      `json:"keep_alive,omitempty"`
	Options   map[string]any `json:"options"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<24), 1<<24)
	for in.Scan() {
		body, _ := base64.StdEncoding.DecodeString(in.Text())
		var r Req
		err := json.NewDecoder(bytes.NewReader(body)).Decode(&r)
		out := map[string]any{"ok": err == nil}
		if err == nil {
			out["model"] = strings.TrimSpace(r.Model)
			out["empty"] = r.Prompt == ""
			if r.Stream != nil {
				out["stream"] = *r.Stream
			}
			if r.KeepAlive != nil {
				out["keep_alive"] = int64(r.KeepAlive.Duration)
			}
			if v, ok := r.Options["num_ctx"]; ok && v != nil {
				switch t := v.(type) {
				case float64:
					out["num_ctx"] = int(t)
				default:
					out["num_ctx"] = "rejected"
				}
			}
		} else {
			out["err"] = err.Error()
		}
		j, _ := json.Marshal(out)
		fmt.Println(string(j))
	}
}
