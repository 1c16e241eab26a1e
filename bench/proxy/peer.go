// SPDX-License-Identifier: Apache-2.0

// The other ends of the proxy bench: a server that streams records, a client that times them, and
// the standard library's reverse proxy as a peer. Standard library only; run.py builds it.
//
//	peer upstream PORT
//	peer load PORT STREAMS RECORDS RATE SECONDS WARMUP
//	peer reverse PORT UPSTREAM
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const listing = `{"models":[` + entry + "," + entry + "," + entry + "]}"
const entry = `{"name":"llama3.2:3b","model":"llama3.2:3b","size":2019393189,"digest":"a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"3.2B","quantization_level":"Q4_K_M"},"expires_at":"2026-11-22T10:38:31.83753Z","size_vram":2019393189,"context_length":4096}`
const final = `{"model":"llama3.2:3b","response":"","done":true,"done_reason":"stop","total_duration":5191566416,"load_duration":2154458,"prompt_eval_count":26,"prompt_eval_duration":383809000,"eval_count":298,"eval_duration":4799921000}` + "\n"

func main() {
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "upstream":
		upstream(arguments[0])
	case "load":
		load(arguments)
	case "reverse":
		reverse(arguments[0], arguments[1])
	}
}

// -- the server -----------------------------------------------------------------------------------

func upstream(port string) {
	listening, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listening.Accept()
		if err == nil {
			go answer(connection)
		}
	}
}

// answer speaks just enough HTTP to be no part of what is measured.
func answer(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 8192)
	small := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"+
		"Date: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", len(listing), listing))
	for {
		target, ok := request(reader)
		if !ok {
			return
		}
		if _, query, streamed := strings.Cut(target, "?"); streamed {
			values, _ := url.ParseQuery(query)
			records, _ := strconv.Atoi(values.Get("records"))
			rate, _ := strconv.ParseFloat(values.Get("rate"), 64)
			if !stream(connection, records, rate) {
				return
			}
		} else if _, err := connection.Write(small); err != nil {
			return
		}
	}
}

// request reads a head and its body and returns the target.
func request(reader *bufio.Reader) (string, bool) {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return "", false
	}
	target := strings.Fields(string(line))[1]
	length := 0
	for {
		line, err = reader.ReadSlice('\n')
		if err != nil {
			return "", false
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > 15 && bytes.EqualFold(line[:15], []byte("content-length:")) {
			length, _ = strconv.Atoi(strings.TrimSpace(string(line[15:])))
		}
	}
	_, err = reader.Discard(length)
	return target, err == nil
}

// stream writes one record a chunk, each with its own moment, at a rate per second.
func stream(connection net.Conn, records int, rate float64) bool {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
	next := time.Now()
	for i := 0; i < records; i++ {
		time.Sleep(time.Until(next))
		next = next.Add(time.Duration(float64(time.Second) / rate))
		record := fmt.Sprintf(`{"ts":%019d,"model":"llama3.2:3b","created_at":"2026-11-22T10:00:00.123456789Z","response":" token","done":false}`+"\n", time.Now().UnixNano())
		if _, err := fmt.Fprintf(connection, "%s%x\r\n%s\r\n", head, len(record), record); err != nil {
			return false
		}
		head = ""
	}
	_, err := fmt.Fprintf(connection, "%x\r\n%s\r\n0\r\n\r\n", len(final), final)
	return err == nil
}

// -- the client -----------------------------------------------------------------------------------

type seen struct{ first, delays []float64 }

func load(arguments []string) {
	streams, _ := strconv.Atoi(arguments[1])
	seconds, _ := strconv.ParseFloat(arguments[4], 64)
	warmup, _ := strconv.ParseFloat(arguments[5], 64)
	body := `{"model":"llama3.2:3b","prompt":"why is the sky blue? please answer at some length"}`
	ask := []byte(fmt.Sprintf("POST /api/generate?records=%s&rate=%s HTTP/1.1\r\nHost: localhost\r\n"+
		"Content-Type: application/json\r\nUser-Agent: load\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n%s",
		arguments[2], arguments[3], len(body), body))
	begin := time.Now().Add(time.Duration(warmup * float64(time.Second)))
	end := begin.Add(time.Duration(seconds * float64(time.Second)))
	results := make([]seen, streams)
	errors := make([]int, streams)
	var all sync.WaitGroup
	for i := 0; i < streams; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			time.Sleep(time.Duration(float64(time.Second) * float64(i) / float64(streams))) // spread over one second
			for time.Now().Before(end) {
				if one(arguments[0], ask, begin, end, &results[i]) != nil && time.Now().Before(end) {
					errors[i]++
					time.Sleep(10 * time.Millisecond)
				}
			}
		}(i)
	}
	all.Wait()
	report(results, errors, seconds)
}

// one connects and asks again and again until the end.
func one(port string, ask []byte, begin, end time.Time, result *seen) error {
	connection, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(end)
	reader := bufio.NewReaderSize(connection, 16384)
	for {
		asked := time.Now()
		if _, err := connection.Write(ask); err != nil {
			return err
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return err
		}
		if response.StatusCode != 200 {
			return fmt.Errorf("status %d", response.StatusCode)
		}
		lines := bufio.NewReaderSize(response.Body, 4096)
		for first := true; ; first = false {
			line, err := lines.ReadSlice('\n')
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			now := time.Now()
			if now.Before(begin) || !bytes.HasPrefix(line, []byte(`{"ts":`)) {
				continue
			}
			if first {
				result.first = append(result.first, now.Sub(asked).Seconds()*1e3)
			}
			sent, _ := strconv.ParseInt(string(line[6:25]), 10, 64)
			result.delays = append(result.delays, float64(now.UnixNano()-sent)/1e6)
		}
	}
}

func report(results []seen, errors []int, seconds float64) {
	var first, delays []float64
	failed := 0
	for i := range results {
		first = append(first, results[i].first...)
		delays = append(delays, results[i].delays...)
		failed += errors[i]
	}
	sort.Float64s(first)
	sort.Float64s(delays)
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"chunks": len(delays), "per_second": float64(len(delays)) / seconds, "errors": failed,
		"first_p50": at(first, .5), "first_p99": at(first, .99), "requests": len(first),
		"delay_p50": at(delays, .5), "delay_p99": at(delays, .99), "delay_max": at(delays, 1),
	})
}

func at(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return -1
	}
	return sorted[int(share*float64(len(sorted)-1))]
}

// -- the peer -------------------------------------------------------------------------------------

func reverse(port, server string) {
	target, _ := url.Parse("http://127.0.0.1:" + server)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxIdleConns = 1024, 2048
	transport.DisableCompression = true
	proxy.Transport = transport
	panic(http.ListenAndServe("127.0.0.1:"+port, proxy))
}
