package sandbox

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestRecordLine: the record is what package json reads, whatever the words are.
func TestRecordLine(t *testing.T) {
	r := Record{
		Run: "0123", Command: []string{"sh", "-c", "echo \"\\\x00\x1b\n\t\x7f\u2028é\U0001f600"}, Dir: "/a \"b\"", Tree: "/a", Layer: "l", Joined: "4567",
		Start: time.Unix(1, 2).UTC(), End: time.Unix(3, 0).UTC(), Exit: 137, Signal: 9, CPU: 0.25, MaxRSS: 1 << 40, Changes: new(int),
	}
	for _, r := range []Record{r, {Start: time.Unix(0, 0).UTC(), End: time.Unix(0, 0).UTC(), Command: []string{}}} {
		var got Record
		if err := json.Unmarshal(r.line(), &got); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v reads as %+v, %v", r, got, err)
		}
	}
	var got Record
	if err := json.Unmarshal(Record{Command: []string{"\xff\xc3"}}.line(), &got); err != nil || got.Command[0] != "\ufffd\ufffd" {
		t.Errorf("invalid UTF-8: %q, %v", got.Command, err)
	}
}
