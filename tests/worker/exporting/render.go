// Renders Ollama's TEMPLATE as Ollama does: Go's text/template, and turns of one role joined.
//
// Reads {"template", "conversations": [[{"role", "content"}]]} from standard input and writes a
// list of texts.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type request struct {
	Template      string      `json:"template"`
	Conversations [][]message `json:"conversations"`
}

// joined returns the system turns' text, and the turns, those of one role in a row as one.
func joined(turns []message) (string, []*message) {
	var system []string
	var whole []*message
	for i := range turns {
		turn := turns[i]
		if turn.Role == "system" {
			system = append(system, turn.Content)
		}
		if n := len(whole); n > 0 && whole[n-1].Role == turn.Role {
			whole[n-1].Content += "\n\n" + turn.Content
		} else {
			whole = append(whole, &turn)
		}
	}
	return strings.Join(system, "\n\n"), whole
}

func main() {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(asked.Template))
	texts := []string{}
	for _, turns := range asked.Conversations {
		system, whole := joined(turns)
		var text bytes.Buffer
		err := parsed.Execute(&text, map[string]any{
			"System": system, "Messages": whole, "Response": "",
		})
		if err != nil {
			panic(err)
		}
		texts = append(texts, text.String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(texts); err != nil {
		panic(err)
	}
}
