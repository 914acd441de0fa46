package train

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"distill/data"
	"distill/internal/hint"
	"distill/runtime"
	"distill/runtime/graph"
	"distill/teacher"
	"distill/teacher/cache"
)

// settled is the recipe with the views of its training images settled.
func (r *Recipe) settled() (*Recipe, error) {
	s := *r
	return &s, s.settleViews()
}

// settleViews gives the training images, as far as the recipe leaves it open, the views that its cache holds, or, where there
// is no cache yet, those that one is made of: another in each epoch.
func (r *Recipe) settleViews() error {
	a := &r.Data.Augment
	var folders []string
	for _, t := range r.AllTeachers() {
		if t.Cache.Folder != "" {
			folders = append(folders, t.Cache.Folder)
		}
	}
	if len(folders) == 0 || !a.Varies() {
		return nil
	}
	views, seed := r.Epochs, r.Seed
	if i := slices.IndexFunc(folders, cache.Exists); i >= 0 { // another cache that is there must hold the same
		info, err := cache.ReadInfo(folders[i])
		if err != nil {
			return fmt.Errorf("train: %w", err)
		}
		views, seed = info.Key.Augment.Views, info.Key.Augment.Seed
	}
	if a.Views == 0 {
		a.Views = views
	}
	if a.Seed == nil {
		a.Seed = &seed
	}
	return nil
}

// withoutViews is the augmentation without what leaves the weights as they would be: as many views as epochs from the run's seed.
func (r *Recipe) withoutViews() data.Augment {
	a := r.Data.Augment
	if a.Views >= r.Epochs || !a.Varies() {
		a.Views = 0
	}
	if a.Seed != nil && *a.Seed == r.Seed || !a.Varies() {
		a.Seed = nil
	}
	return a
}

// withoutCache is a teacher without what of its cache leaves the weights as they would be: one of float32 is that.
func withoutCache(o teacher.Options) teacher.Options {
	c := o.Cache
	o.Cache = teacher.Cache{}
	if c.Folder != "" {
		o.Cache.Rounding = c.Rounding
		if c.DType != "float32" {
			o.Cache.DType = c.DType
		}
	}
	return o
}

// cacheKey is that of a teacher's outputs which the losses need; left are the inner tensors among them that are not kept: maps,
// unless the recipe has them kept, too.
func (run *Run) cacheKey(i int) (k cache.Key, left []cache.Tap, err error) {
	r, t := run.Recipe.alone(i), run.Teachers[i]
	k = cache.Key{
		Teacher: t.SHA256(), Classes: t.Classes(), ClassMap: t.ClassMap(), Preprocess: t.Preprocess(), Samples: run.Splits.Train.Len(),
		Augment: cache.Augment{Views: 1}, DType: r.Teacher.Cache.DType,
		Run: cache.Run{
			ONNXRuntime: runtime.Version(), Processor: cache.Processor(), Provider: runtime.Provider{Name: r.Teacher.Provider}.String(),
			Options: r.Teacher.ProviderOptions, Threads: run.Threads.Teacher, Batch: r.Batch, AtATime: t.AtATime(), Specialized: t.Specialized(), Outputs: r.tapped(),
		},
	}
	if a := r.Data.Augment; a.Varies() {
		k.Augment = cache.Augment{Crop: a.Crop, Flip: a.Flip, Views: a.Views, Seed: *a.Seed}
	}
	if k.DType == "" {
		k.DType = "float32"
	}
	for _, name := range r.tapped() {
		tap := cache.Tap{Name: name, Shape: t.TapShape(name)}
		if r.Teacher.Cache.Maps || isVector(tap.Shape) {
			k.Taps = append(k.Taps, tap)
		} else {
			left = append(left, tap)
		}
	}
	k.Data, err = data.Digest(run.Splits.Train)
	return k, left, err
}

// isVector reports whether a tensor holds one vector an image: [D] or [D,1,1].
func isVector(s graph.Shape) bool { return len(s) > 0 && s.Size() == s[0] }

// cacheInfo is what the cache.json of a teacher's cache with the key says; its recipe is of that teacher alone.
func (run *Run) cacheInfo(i int, k cache.Key) (cache.Info, error) {
	recipe, err := run.Recipe.alone(i).Text()
	if err != nil {
		return cache.Info{}, err
	}
	model, err := filepath.Abs(run.Teachers[i].Path())
	return cache.Info{Key: k, Model: model, Recipe: recipe, Made: time.Now().UTC().Format(time.DateOnly)}, err
}

// openCaches opens or makes the caches that the recipe names, unless no loss asks for a teacher.
func (run *Run) openCaches() error {
	run.caches = make([]*cache.Cache, len(run.Teachers))
	if !slices.ContainsFunc(run.phases, func(ph *Phase) bool { return ph.NeedsTeacher }) {
		return nil
	}
	for i, t := range run.Recipe.AllTeachers() {
		if t.Cache.Folder == "" {
			continue
		}
		if err := run.openCache(i, t.Cache); err != nil {
			return err
		}
	}
	return nil
}

// openCache opens or makes that of a teacher.
func (run *Run) openCache(i int, o teacher.Cache) error {
	want, left, err := run.cacheKey(i)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		err := fmt.Errorf("train: teacher.cache: a loss compares %q %v, a map: a cache keeps logits and tensors of one vector an image", left[0].Name, left[0].Shape)
		return hint.Wrap(err, "leave teacher.cache out, or have maps kept, %s a view, by teacher.cache.maps=true", bytesText(mapBytes(want, left)/int64(want.Augment.Views)))
	}
	if o.Write && !cache.Exists(o.Folder) {
		need, err := want.Bytes()
		if err != nil {
			return fmt.Errorf("train: cache %s: %w", o.Folder, err)
		}
		if err := Room(o.Folder, need); err != nil {
			return err
		}
		return run.createCache(i, o.Folder, want)
	}
	c, err := cache.Open(o.Folder)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	k := c.Info().Key
	if err := k.Serves(want, o.Rounding); err != nil {
		return errors.Join(fmt.Errorf("train: cache %s: %w", o.Folder, err), c.Close())
	}
	missing := 0
	for view := range min(k.Augment.Views, run.Recipe.Epochs) {
		n, err := c.Left(view)
		if err != nil {
			return errors.Join(fmt.Errorf("train: %w", err), c.Close())
		}
		missing += n
	}
	if missing == 0 {
		run.caches[i] = c
		return nil
	}
	if err := c.Close(); err != nil {
		return err
	}
	if !o.Write {
		return hint.Wrap(fmt.Errorf("train: cache %s: %d records are missing that the run needs", o.Folder, missing),
			"let `distill cache build` go on with it, or the run by teacher.cache.write=true")
	}
	if err := k.Serves(want, false); err != nil { // what this run would add is not what the cache is of
		return fmt.Errorf("train: cache %s is not complete: %w", o.Folder, err)
	}
	return run.createCache(i, o.Folder, k)
}

// Room is an error where the disk of a folder, which need not exist yet, has no room for a cache of so many bytes.
func Room(folder string, need int64) error {
	free, err := cache.Free(folder)
	if err != nil {
		return err
	}
	if need > free {
		return hint.Wrap(fmt.Errorf("train: cache %s: %s are needed, and %s are free", folder, bytesText(need), bytesText(free)),
			"free some space, choose another folder, or keep less: data.augment.views=N, teacher.cache.dtype=float16")
	}
	return nil
}

// createCache opens a teacher's cache that is new, or not complete, to be filled.
func (run *Run) createCache(i int, folder string, k cache.Key) error {
	info, err := run.cacheInfo(i, k)
	if err != nil {
		return err
	}
	if run.caches[i], err = cache.Create(folder, info); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

// mapBytes is what tensors would take in a whole cache, beside what it keeps.
func mapBytes(k cache.Key, left []cache.Tap) int64 {
	values := 0
	for _, t := range left {
		values += t.Shape.Size()
	}
	size := 4
	if k.DType == "float16" {
		size = 2
	}
	return int64(values) * int64(size) * int64(k.Samples) * int64(k.Augment.Views)
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// answers are the teacher's in the current phase, or what several come to by a rule; nil where no loss asks for them, or a policy
// picks one.
func (run *Run) answers() answers {
	if !run.phase.NeedsTeacher {
		return nil
	}
	asks := make([]answers, len(run.Teachers))
	for i := range asks {
		asks[i] = run.answersOf(i)
	}
	if len(run.Recipe.Teachers) == 0 {
		return asks[0]
	}
	rule, ok := run.Recipe.Combine.Rule.(teacher.Rule)
	if !ok {
		return nil
	}
	return combined(rule, len(run.State.Classes), asks)
}

// asked is how many batches the teachers are asked of at once: while the last run of one is made, those of the next can begin. Where
// answers are kept each batch must find those of all before it.
func (run *Run) asked() int {
	if slices.ContainsFunc(run.caches, func(c *cache.Cache) bool { return c != nil }) {
		return 1
	}
	return 2
}

// answersOf are one teacher's, kept ones where there is a cache.
func (run *Run) answersOf(i int) answers {
	ask := answers(run.Teachers[i].Forward)
	if run.caches[i] == nil {
		return ask
	}
	l := run.phase.Loader
	return kept{run.caches[i], l, l.Source.Len() - run.phase.ahead(0).epoch*l.Batch, ask}.answer
}

// kept are answers from a cache, which keeps those that it had to ask for.
type kept struct {
	cache  *cache.Cache
	loader *data.Loader // of the batches
	rest   int          // samples that an epoch leaves out, for they do not fill a batch, or a step of several; another's order may not
	ask    answers
}

func (k kept) answer(b *data.Batch) (teacher.Outputs, error) {
	out, ok, err := k.cache.Fetch(b.Draw, b.Index)
	if err != nil {
		return out, err
	}
	if !ok && !k.cache.Writable() {
		return out, fmt.Errorf("cache %s: records of view %d are gone", k.cache.Folder(), b.Draw)
	}
	if !ok {
		if out, err = k.ask(b); err != nil {
			return out, err
		}
		if err := k.cache.Add(b.Draw, b.Index, out); err != nil {
			return out, err
		}
	}
	if k.cache.Writable() && k.rest > 0 {
		if left, err := k.cache.Left(b.Draw); err != nil || left > 0 && left <= k.rest {
			return out, errors.Join(err, k.complete(b.Draw))
		}
	}
	return out, nil
}

// complete asks for all that the cache lacks of a view, in batches of full size: what fills up the last is there already.
func (k kept) complete(view int) error {
	missing, err := k.cache.Missing(view)
	if err != nil {
		return err
	}
	var b data.Batch
	for chunk := range slices.Chunk(missing, k.loader.Batch) {
		samples := slices.Clone(chunk)
		for i := 0; len(samples) < k.loader.Batch; i++ {
			samples = append(samples, i)
		}
		if err := k.loader.FillSamples(&b, view, samples); err != nil {
			return err
		}
		out, err := k.ask(&b)
		if err != nil {
			return err
		}
		if err := k.cache.Add(view, samples, out); err != nil {
			return err
		}
	}
	return nil
}
