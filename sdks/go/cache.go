package licensemetering

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
)

const (
	maximumEntries   = 1000
	maximumFileBytes = 1 << 21
	latestFile       = "latest.json"
	keysFile         = "keys.json"
)

var (
	// These are about the license and not about the domain that was asked for.
	licenseWide  = map[string]bool{"invalid_signature": true, "not_found": true, "canceled": true, "suspended": true, "expired": true}
	entryPattern = regexp.MustCompile(`^[0-9a-f]{32}-[0-9a-f]{32}\.json$`)
)

// entry is a verdict, its signature, and when it came by the local clock, in milliseconds.
type entry struct {
	verdict   *Verdict
	signature string
	received  int64
}

type cacheKey struct{ licenseKey, domain string }

type keptEntry struct {
	key   cacheKey
	entry *entry
}

// savedFile is what lies on disk: the signed verdict itself, which is verified again when it is read.
type savedFile struct {
	Signature string `json:"signature,omitempty"`
	Keys      string `json:"keys,omitempty"`
}

// cache holds at most 1,000 verdicts in memory and on disk; the oldest leave first.
type cache struct {
	folder     string
	verify     func(signature, licenseKey string, domain DomainName) *Verdict
	signedTime func(signature string) int64

	lock         sync.Mutex
	entries      map[cacheKey]*list.Element
	order        *list.List
	highestTime  int64
	isLatestRead bool
}

// highest is the latest time that the service has signed; 0 where none is known.
func (c *cache) highest() int64 {
	c.lock.Lock()
	defer c.lock.Unlock()
	if !c.isLatestRead {
		c.isLatestRead = true
		if saved := c.read(latestFile); saved != nil {
			c.highestTime = max(c.highestTime, c.signedTime(saved.Signature))
		}
	}
	return c.highestTime
}

// get is what memory holds.
func (c *cache) get(licenseKey string, domain DomainName) *entry {
	c.lock.Lock()
	defer c.lock.Unlock()
	if element, ok := c.entries[cacheKey{licenseKey, domain.Text}]; ok {
		c.order.MoveToBack(element)
		return element.Value.(keptEntry).entry
	}
	return nil
}

// load is the newer of what memory and disk hold; another process may have written it.
func (c *cache) load(licenseKey string, domain DomainName) *entry {
	known, saved := c.get(licenseKey, domain), c.read(fileName(licenseKey, domain))
	if saved == nil || (known != nil && saved.Signature == known.signature) {
		return known
	}
	verdict := c.verify(saved.Signature, licenseKey, domain)
	if verdict == nil || (known != nil && known.verdict.Timestamp >= verdict.Timestamp) {
		return known
	}
	loaded := &entry{verdict, saved.Signature, verdict.Timestamp}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.keep(licenseKey, domain, loaded)
	return loaded
}

// put keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that.
func (c *cache) put(licenseKey string, domain DomainName, new *entry) {
	isLatest := new.verdict.Timestamp >= c.highest()
	c.lock.Lock()
	defer c.lock.Unlock()
	if !new.verdict.Valid && licenseWide[new.verdict.Code] {
		for key, element := range c.entries {
			if key.licenseKey == licenseKey {
				c.order.Remove(element)
				delete(c.entries, key)
			}
		}
	}
	c.keep(licenseKey, domain, new)
	if c.folder != "" {
		// A full or forbidden disk takes the cache's survival of a restart away, and nothing else.
		_ = c.save(licenseKey, domain, new, isLatest)
	}
}

func (c *cache) keep(licenseKey string, domain DomainName, new *entry) {
	key := cacheKey{licenseKey, domain.Text}
	if element, ok := c.entries[key]; ok {
		c.order.Remove(element)
	}
	c.entries[key] = c.order.PushBack(keptEntry{key, new})
	c.highestTime = max(c.highestTime, new.verdict.Timestamp)
	for c.order.Len() > maximumEntries {
		oldest := c.order.Front()
		delete(c.entries, oldest.Value.(keptEntry).key)
		c.order.Remove(oldest)
	}
}

func (c *cache) save(licenseKey string, domain DomainName, new *entry, isLatest bool) error {
	name, saved := fileName(licenseKey, domain), savedFile{Signature: new.signature}
	if new.verdict.Valid {
		if err := c.write(name, saved); err != nil {
			return err
		}
		c.trim(name)
	} else {
		if licenseWide[new.verdict.Code] {
			for _, other := range c.files() {
				if other != name && strings.HasPrefix(other, shortHash(licenseKey)+"-") {
					_ = os.Remove(filepath.Join(c.folder, other))
				}
			}
		}
		// Names that were never valid leave no file: whoever asks for them must not fill the disk.
		if _, err := os.Stat(filepath.Join(c.folder, name)); err == nil {
			if err := c.write(name, saved); err != nil {
				return err
			}
		}
	}
	if isLatest {
		return c.write(latestFile, saved)
	}
	return nil
}

func (c *cache) files() []string {
	found, _ := os.ReadDir(c.folder)
	names := []string{}
	for _, file := range found {
		if entryPattern.MatchString(file.Name()) {
			names = append(names, file.Name())
		}
	}
	return names
}

func (c *cache) trim(kept string) {
	names := c.files()
	if len(names) <= maximumEntries {
		return
	}
	age := func(name string) int64 {
		info, err := os.Stat(filepath.Join(c.folder, name))
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	sort.Slice(names, func(i, j int) bool { return age(names[i]) < age(names[j]) })
	for _, name := range names[:len(names)-maximumEntries] {
		if name != kept {
			_ = os.Remove(filepath.Join(c.folder, name))
		}
	}
}

// write makes a file of the owner's alone, whole or not at all.
func (c *cache) write(name string, value savedFile) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.folder, 0o700); err != nil {
		return err
	}
	temporary := filepath.Join(c.folder, "."+name+"."+randomHex())
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(temporary, filepath.Join(c.folder, name))
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

func (c *cache) read(name string) *savedFile {
	if c.folder == "" {
		return nil
	}
	file, err := os.Open(filepath.Join(c.folder, name))
	if err != nil {
		return nil
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maximumFileBytes))
	saved := &savedFile{}
	if err != nil || json.Unmarshal(data, saved) != nil {
		return nil
	}
	return saved
}

func shortHash(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:16])
}

func fileName(licenseKey string, domain DomainName) string {
	return shortHash(licenseKey) + "-" + shortHash(domain.Text) + ".json"
}

// randomHex has 128 bits. The system's randomness has no error that could be handled.
func randomHex() string {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return hex.EncodeToString(bytes)
}
