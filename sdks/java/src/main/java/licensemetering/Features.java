package licensemetering;

import java.util.Collection;
import java.util.SortedSet;
import java.util.TreeSet;

/** What a license unlocks. */
public final class Features {
    private final SortedSet<String> names;

    /**
     * A set of features.
     *
     * @param names in any order
     */
    public Features(Collection<String> names) {
        this.names = java.util.Collections.unmodifiableSortedSet(new TreeSet<>(names));
    }

    /**
     * Whether the license unlocks it.
     *
     * @param name of the feature
     * @return true where it does
     */
    public boolean has(String name) {
        return names.contains(name);
    }

    /**
     * All of them.
     *
     * @return sorted
     */
    public SortedSet<String> names() {
        return names;
    }
}
