// A listing on a page: made for a filter, renewed with each connection, fed by the journal.
import { useEffect, useMemo } from "preact/hooks";
import { Listing, type Listed, type Source } from "../listing";
import { onEvents } from "../session";
import { useStore, type Resource } from "../store";

const NOTHING: Resource = { value: { rows: [], more: true, reading: true }, problem: null };

export function useListing<Row, Filter>(
  key: string,
  source: Source<Row, Filter>,
  filter: Filter,
): { listing: Listing<Row, Filter>; listed: Listed<Row>; problem: string | null } {
  const wanted = `${key}?${JSON.stringify(filter)}`;
  const listing = useMemo(() => new Listing(wanted, source, filter), [wanted]);
  const generation = useStore((state) => state.generation);
  const resource = useStore((state) => state.resources[wanted] ?? NOTHING);
  useEffect(() => {
    listing.open();
    const stop = onEvents((events) => listing.hear(events));
    return () => {
      stop();
      listing.close();
    };
  }, [listing]);
  useEffect(() => void listing.renew(), [listing, generation]);
  return { listing, listed: resource.value as Listed<Row>, problem: resource.problem };
}
