-- Where the resolvers of host $1 listen: attachments ($2), endpoints ($3).
UPDATE host_attachment AS attachment
   SET resolver_endpoint = said.endpoint
  FROM unnest($2::text[], $3::text[]) AS said (id, endpoint)
 WHERE attachment.id = said.id
   AND attachment.host_id = $1
   AND attachment.resolver_endpoint <> said.endpoint
