package host

import "github.com/syndtr/gocapability/capability"

// capabilities compares the effective set of this process (capabilities(7))
// with what its uid lets one expect: all for root, none for others. They matter
// for the maps: a uid 0 without CAP_SETFCAP may not map itself (since Linux
// 5.12, user_namespaces(7)).
func capabilities(uid uint32) (missing, extra []string) {
	c, err := capability.NewPid2(0)
	if err != nil || c.Load() != nil {
		return nil, nil
	}
	for _, k := range capability.List() {
		if k > capability.CAP_LAST_CAP {
			continue
		}
		switch has := c.Get(capability.EFFECTIVE, k); {
		case uid == 0 && !has:
			missing = append(missing, "cap_"+k.String())
		case uid != 0 && has:
			extra = append(extra, "cap_"+k.String())
		}
	}
	return missing, extra
}
