package ring

import "testing"

// TestDigest: whatever a lookup may find changes it, and the version does not.
func TestDigest(t *testing.T) {
	base := func() Data {
		return Data{Devices: devices(4), PartPower: 2, Version: 3, Rows: scatter(2, 3, 4)}
	}
	want := mustNew(t, base()).Digest()
	for name, tt := range map[string]struct {
		change func(*Data)
		same   bool
	}{
		"nothing":     {func(*Data) {}, true},
		"the version": {func(d *Data) { d.Version = 9 }, true},
		"a partition": {func(d *Data) { d.Rows[1][2] = (d.Rows[1][2] + 1) % 4 }, false},
		"an address":  {func(d *Data) { d.Devices[1].Port++ }, false},
		"a weight":    {func(d *Data) { d.Devices[1].Weight++ }, false},
		"a short row": {func(d *Data) { d.Rows[2] = d.Rows[2][:3] }, false},
		"a row less":  {func(d *Data) { d.Rows = d.Rows[:2] }, false},
	} {
		data := base()
		tt.change(&data)
		if got := mustNew(t, data).Digest(); (got == want) != tt.same {
			t.Errorf("%s: digest %s, before it was %s", name, got, want)
		}
	}
}
